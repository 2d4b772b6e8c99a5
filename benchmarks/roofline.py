"""What the model needs, what this machine could do, and the fraction of that which is reached.

Counts operations and memory traffic per atom from the architecture (harness/counts.py; in inference the lesser work
that fixed weights leave of the first layer, as the engine does it), measures this machine's peaks
(single-precision matrix product; triad a = b + 3 c over arrays that no cache holds), and times energy + forces + stress
through the ASE calculator and training steps. The fraction reached is the least possible time, by the larger of
operations / peak and traffic / bandwidth, over the time taken. The peaks are measured in turn with the model.

    python benchmarks/roofline.py
    python benchmarks/roofline.py --presets small --threads 1 --rounds 9
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import counts, report
from harness.counts import Stages
from harness.structures import moved, repeated_water
from harness.turns import Timing, take_turns, timed

_SIDE = 1536  # of the matrices
_TRIAD = 2**25  # numbers in each of the three arrays


def peaks() -> dict[str, tuple[Callable[[], Any], float]]:
    """Return what measures a peak -> (action, operations or bytes of one action)."""
    import torch

    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    out = torch.empty(_SIDE, _SIDE)
    x, y, z = (torch.ones(_TRIAD) for _ in range(3))
    return {
        "matrix product": (lambda: torch.mm(a, b, out=out), 2.0 * _SIDE**3),
        "triad": (lambda: torch.add(x, y, alpha=3.0, out=z), 3.0 * 4 * _TRIAD),
    }


def inference(preset: str, n_atoms: int, cutoff: float | None) -> tuple[Callable[[], None], Stages, int]:
    """Return a call of the calculator on moving water, the work per atom, and the number of atoms."""
    from ase.neighborlist import neighbor_list
    from peer_workers.lam_worker import calculator

    atoms = repeated_water(n_atoms)
    atoms.calc = calculator(preset, cutoff)[0]
    model = atoms.calc.model
    box = repeated_water(192)
    neighbors = len(neighbor_list("i", box, model.cutoff)) / len(box)
    start, step = atoms.positions.copy(), 0

    def call() -> None:
        nonlocal step
        step += 1
        atoms.positions = moved(start, atoms.cell.array, step)
        atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    elements = len(set(box.numbers.tolist()))
    return call, counts.total(model.config, neighbors, elements), len(atoms)


def training(preset: str, n_atoms: int, cutoff: float | None) -> tuple[Callable[[], None], Stages, int]:
    """Return a training step on copper cells, the work per atom, and the number of atoms."""
    from ase.neighborlist import neighbor_list
    from harness.structures import training_cells
    from peer_workers.lam_worker import make_potential, training_step

    cells = max(1, n_atoms // 32)
    step, facts = training_step(preset, cells, cutoff)
    config = make_potential(preset, cutoff).config
    box = training_cells(1)[0]
    neighbors = len(neighbor_list("i", box, config.cutoff)) / len(box)
    return step, counts.total(config, neighbors), facts["atoms"]


def measure(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Return peaks and times with a number of threads."""
    import torch

    torch.set_num_threads(threads)
    actions: dict[Any, Callable[[], Any]] = {}
    amounts: dict[Any, Any] = {}
    for name, (action, amount) in peaks().items():
        actions[name], amounts[name] = action, amount
    for preset in args.presets:
        report.progress(f"loading {preset}, {threads} threads")
        for kind, make, atoms in (("inference", inference, args.atoms), ("training", training, args.training_atoms)):
            actions[preset, kind], stages, count = make(preset, atoms, args.cutoff)
            amounts[preset, kind] = (stages, count)
            for _ in range(3):
                actions[preset, kind]()
    timings = take_turns(
        {key: (lambda action=action: timed(action)) for key, action in actions.items()},
        args.rounds,
        args.turn,
        report.progress,
    )
    flop_rate = amounts["matrix product"] / min(timings["matrix product"].wall)
    byte_rate = amounts["triad"] / min(timings["triad"].wall)
    rows = [
        row_of(preset, kind, amounts[preset, kind], timings[preset, kind], flop_rate, byte_rate)
        for preset in args.presets
        for kind in ("inference", "training")
    ]
    return {"threads": threads, "flop_per_second": flop_rate, "bytes_per_second": byte_rate, "rows": rows}


def row_of(
    preset: str, kind: str, amount: tuple[Stages, int], timing: Timing, flop_rate: float, byte_rate: float
) -> dict[str, Any]:
    """Return one row: needed, taken, fraction reached."""
    stages, atoms = amount
    work = stages.forces if kind == "inference" else stages.training
    taken = timing.seconds / atoms
    return {
        "preset": preset,
        "kind": kind,
        "flop_per_atom": work.flop,
        "bytes_per_atom": work.bytes,
        "intensity": work.intensity,
        "least_seconds_per_atom": work.seconds(flop_rate, byte_rate),
        "seconds_per_atom": taken,
        "flop_per_second": work.flop / taken,
        "fraction": work.seconds(flop_rate, byte_rate) / taken,
        **timing.as_dict(),
    }


HEADER = ["", "MFLOP/atom", "kB/atom", "FLOP/byte", "least us/atom", "us/atom", "GFLOP/s", "fraction"]


def rows_of(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of the table."""
    return [
        [
            f"{row['preset']}, {row['kind']}",
            report.number(row["flop_per_atom"] / 1e6),
            report.number(row["bytes_per_atom"] / 1e3),
            report.number(row["intensity"]),
            report.number(1e6 * row["least_seconds_per_atom"]),
            report.number(1e6 * row["seconds_per_atom"]),
            report.number(row["flop_per_second"] / 1e9),
            f"{100 * row['fraction']:.0f} %",
        ]
        for row in rows
    ]


def part_rows(presets: list[str], neighbors: float, cutoff: float | None) -> list[list[str]]:
    """Return the rows of the table of needs: FLOP of each part of each preset, for energy, forces and stress."""
    from peer_workers.lam_worker import make_potential

    rows = []
    for preset in presets:
        for name, stages in counts.needed(make_potential(preset, cutoff).config, neighbors).items():
            amounts = [stages.energy.flop, stages.forces.flop, stages.training.flop, stages.forces.bytes]
            rows.append([f"{preset}, {name}", *(report.number(amount / 1e3) for amount in amounts)])
    return rows


def plot(measured: list[dict[str, Any]], path: Path) -> None:
    """Draw the roofs and where the models lie below them."""
    axes = report.new_axes()
    for place, of in enumerate(measured):
        flop_rate, byte_rate = of["flop_per_second"] / 1e9, of["bytes_per_second"] / 1e9
        points = [0.5, flop_rate / byte_rate, 100.0]
        roof = [min(flop_rate, point * byte_rate) for point in points]
        label = f"peak, {of['threads']} thread{'s' * (of['threads'] > 1)}"
        axes.plot(points, roof, color=f"C{place}", label=label)
        for kind, mark in (("inference", "o"), ("training", "s")):
            rows = [row for row in of["rows"] if row["kind"] == kind]
            reached = [row["flop_per_second"] / 1e9 for row in rows]
            axes.plot([row["intensity"] for row in rows], reached, mark, color=f"C{place}", label=kind)
            for row, height in zip(rows, reached, strict=True):
                axes.annotate(
                    row["preset"], (row["intensity"], height), (5, -3), textcoords="offset points", fontsize=7
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOP needed per byte needed")
    axes.set_ylabel("GFLOP/s")
    axes.legend(frameon=False, fontsize=7, ncols=len(measured))
    report.save_plot(axes, path)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    parser.add_argument("--presets", nargs="+", default=["nano", "small", "base"], help="presets")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--atoms", type=int, default=1536, help="atoms of water in inference (default: 1536)")
    parser.add_argument("--training-atoms", type=int, default=512, help="atoms of a training batch (default: 512)")
    parser.add_argument("--cutoff", type=float, help="cutoff, Angstrom (default: the preset's)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each measurement (default: 5)")
    parser.add_argument("--turn", type=float, default=0.2, help="least length of a turn, s (default: 0.2)")
    return parser


def main() -> None:
    """Measure, print and write."""
    args = build_parser().parse_args()
    machine = report.machine()
    measured = [measure(args, threads) for threads in args.threads]
    needs = ["kFLOP or kB per atom", "energy", "and forces", "training", "traffic, forces"]
    sections = [("Needed by the equations, 60 neighbours", needs, part_rows(args.presets, 60.0, args.cutoff))]
    for of in measured:
        title = (
            f"{of['threads']} thread{'s' * (of['threads'] > 1)}: peak {of['flop_per_second'] / 1e9:.0f} GFLOP/s, "
            f"{of['bytes_per_second'] / 1e9:.0f} GB/s"
        )
        sections.append((title, HEADER, rows_of(of["rows"])))
    report.save(args.out, "roofline", {"machine": machine, "results": measured}, sections)
    plot(measured, args.out / "roofline.png")


if __name__ == "__main__":
    main()
