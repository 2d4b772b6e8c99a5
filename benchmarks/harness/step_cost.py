"""What a training step costs for its atoms and its edges: steps on crystals of several densities, and the fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from harness.turns import Timing

CONSTANTS = (3.3, 3.6, 4.2, 5.2)
"""Lattice constants of fcc copper, Angstrom: from dense to thin."""


def steps_of_densities(preset: str, sizes: Sequence[int]) -> Iterator[tuple[Callable[[], None], int, int]]:
    """Yield training steps on crystals of several densities: ``(step, atoms, edges)``.

    Args:
        preset: the architecture, with random weights.
        sizes: atoms of a step, in multiples of 32.
    """
    import torch
    from ase.build import bulk
    from training_throughput import HEAD, training_step

    from lam import keys
    from lam.data.graph import build_graph, collate
    from lam.data.structure import Structure
    from lam.model.heads import HeadInfo
    from lam.model.potential import Potential
    from lam.model.presets import preset as settings
    from lam.train.memory import keep_freed_memory

    keep_freed_memory()  # as lam.train does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    head = HeadInfo(name=HEAD.name, elements={"Cu": 1}, periodic=True)
    model = Potential(settings(preset), [head]).to(device)
    for constant in CONSTANTS:
        for size in sizes:
            graphs = []
            for number in range(max(1, size // 32)):
                cell = bulk("Cu", "fcc", a=constant, cubic=True).repeat(2)
                cell.rattle(0.05, seed=number)
                structure = Structure(
                    numbers=cell.numbers, positions=cell.positions, cell=cell.cell.array, pbc=cell.pbc,
                    energy=-3.5 * len(cell), forces=0.0 * cell.positions, stress=0.0 * cell.cell.array,
                )  # fmt: skip
                graphs.append(build_graph(structure, cutoff=model.cutoff))
            batch = {key: value.to(device) for key, value in collate(graphs).items()}
            step = training_step(model, batch)

            def action(step: Callable[[], None] = step) -> None:
                step()
                if device.type == "cuda":
                    torch.cuda.synchronize()

            yield action, len(batch[keys.ATOMIC_NUMBERS]), batch[keys.EDGE_INDEX].shape[1]


def least(timing: Timing) -> float:
    """Return the least time of a step; on a CPU that of the processor, which other work inflates less."""
    import torch

    return min(timing.wall if torch.cuda.is_available() else timing.cpu)


def fitted(steps: Sequence[tuple[int, int, float]]) -> dict[str, float]:
    """Fit ``step + atom * atoms + edge * edges`` to times, with relative errors; none is negative.

    Args:
        steps: atoms, edges and seconds of each.

    Returns:
        The seconds of a step, an atom and an edge; the ``ratio`` of the last two; the largest relative ``error``.
    """
    from scipy.optimize import nnls

    rows = np.array([[1.0, atoms, edges] for atoms, edges, _ in steps])
    seconds = np.array([taken for *_, taken in steps])
    found = nnls(rows / seconds[:, None], np.ones(len(seconds)))[0]
    error = float(np.abs(rows @ found / seconds - 1.0).max())
    ratio = float(found[1] / found[2]) if found[2] else float("inf")
    return {"step": float(found[0]), "atom": float(found[1]), "edge": float(found[2]), "ratio": ratio, "error": error}
