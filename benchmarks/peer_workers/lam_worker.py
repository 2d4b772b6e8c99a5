"""lam, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lam.calculators import LAMCalculator
from lam.calculators.fast import FastPath
from lam.calculators.verlet import VerletList
from lam.data.graph import build_graph, collate
from lam.data.structure import Structure
from lam.model.heads import HeadInfo
from lam.model.potential import Potential
from lam.model.presets import preset
from lam.train.memory import keep_freed_memory

HEAD = HeadInfo(name="benchmark", elements=dict.fromkeys(["H", "C", "O", "Ti", "Cu"], 1), periodic=True, molecular=True)


def about() -> dict[str, Any]:
    """Return versions and what was chosen."""
    import lam

    return {"lam": lam.__version__}


def make_potential(name: str, cutoff: float | None) -> Potential:
    """Return a preset with random weights; ``cutoff`` (Angstrom) replaces its own."""
    torch.manual_seed(0)
    config = preset(name)
    if cutoff is not None:
        config = config.model_copy(update={"cutoff": cutoff})
    return Potential(config, [HEAD])


def calculator(model: str, cutoff: float | None = None, skin: float | None = None) -> tuple[Any, dict[str, Any]]:
    """Return the ASE calculator of a preset and facts of it; ``skin`` (Angstrom) replaces its neighbour list's own."""
    potential = make_potential(model, cutoff)
    made = LAMCalculator(model=potential, device="cpu")
    if skin is not None:
        # No option of the calculator: nobody but a benchmark wants another.
        predictor = made._predictor
        predictor._fast = FastPath(predictor.model)
        predictor._fast.verlet = VerletList(
            predictor.model.cutoff, np.float64 if predictor.dtype == torch.float64 else np.float32, skin=skin
        )
    parameters = sum(parameter.numel() for parameter in potential.parameters())
    dtype = str(made.model.dtype).removeprefix("torch.")
    return made, {"parameters": parameters, "dtype": dtype, "cutoff": made.model.cutoff, "how": "default"}


def training_step(
    model: str, structures: int, cutoff: float | None = None, how: str = "default"
) -> tuple[Callable[[], None], dict[str, Any]]:
    """Return a function that takes one step on ``structures`` cells, and facts."""
    from harness.structures import training_cells
    from training_throughput import training_step as make_step

    keep_freed_memory()  # as lam.train does
    potential = make_potential(model, cutoff)
    graphs = []
    for cell in training_cells(structures):
        labels = {"energy": -3.5 * len(cell), "forces": 0.0 * cell.positions, "stress": 0.0 * cell.cell.array}
        structure = Structure(
            numbers=cell.numbers, positions=cell.positions, cell=cell.cell.array, pbc=cell.pbc, **labels
        )
        graphs.append(build_graph(structure, cutoff=potential.cutoff))
    facts = {"dtype": str(potential.dtype).removeprefix("torch."), "atoms": 32 * structures, "how": how}
    return make_step(potential, collate(graphs)), facts
