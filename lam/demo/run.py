"""The demo from beginning to end: zero-shot, labels, learning curve, plots, table."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lam.atomic_write import atomic_file
from lam.demo.system import LabelSettings, label_system

if TYPE_CHECKING:
    from ase import Atoms
    from rich.console import Console

    from lam.demo.curve import Curve


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does."""

    model: str = "lam-nano"
    """Name or path of the pretrained model."""
    sizes: tuple[int, ...] = (10, 25, 50)
    """Numbers of labels of the learning curve."""
    steps: int = 80
    """Optimiser steps of every training: a few seconds."""
    learning_rate: float = 5e-3
    """Peak learning rate of every training, fine-tuned and from scratch alike."""
    labels: LabelSettings = field(default_factory=LabelSettings)
    """How the labels are made."""


def run_demo(out: str | Path, settings: DemoSettings, console: Console) -> dict[str, Any]:
    """Run the demo and return its results, which are also written to ``results.json``.

    Args:
        out: folder for everything that is made; labels found there are used again.
        settings: what to do.
        console: where to print; progress bars are drawn on terminals only.

    Raises:
        LamError: if the model is not there or tblite is not installed.
    """
    if not console.is_terminal:
        console.width = 100  # of a log file; there is no terminal to ask
    start, out = time.perf_counter(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    console.rule(f"1. Zero-shot predictions of {settings.model}")
    zero_shot = _zero_shot(settings.model, out, console)
    console.rule(f"2. Labels: alanine dipeptide, by {settings.labels.method}")
    labels, test = _labels(settings.labels, out, console)
    console.rule(f"3. Few labels: {settings.steps} steps from {settings.model}, and from scratch")
    curve = _learning_curve(settings, labels, test, out, console)
    plots = _plots(curve, out)
    results = {
        "model": settings.model,
        "steps": settings.steps,
        "zero_shot": zero_shot,
        "unit": {"energy": "meV/atom", "force": "meV/A"},
        "before": asdict(curve.before),
        "zero_forces": curve.zero,
        "points": [asdict(point) for point in curve.points],
    }
    with atomic_file(out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    console.rule("Results")
    _print_curve(curve, console)
    made = [out / "zero-shot.extxyz", labels, test, *curve.models, *plots, out / "results.json"]
    for path in made:
        console.print(f"  {path}", soft_wrap=True)
    console.print(f"Done in {_minutes(time.perf_counter() - start)}.")
    return results


# -- 1 -----------------------------------------------------------------------------------------


def _zero_shot(model: str, out: Path, console: Console) -> list[dict[str, Any]]:
    from ase.io import write

    import lam
    from lam.demo.structures import examples

    potential = lam.load(model)
    rows, frames = [], []
    for example in examples():
        head = example.head if example.head in potential.head_names else None
        atoms = example.atoms
        atoms.info.update(charge=0, spin=1)
        atoms.calc = lam.LAMCalculator(potential, head=head)
        rows.append({"kind": example.kind, "name": example.name, **_predicted(atoms)})
        frames.append(atoms)
    with atomic_file(out / "zero-shot.extxyz") as temporary:
        write(temporary, frames, format="extxyz")
    _print_zero_shot(rows, console)
    return rows


def _predicted(atoms: Atoms) -> dict[str, Any]:
    import numpy as np
    from ase.units import GPa

    forces = atoms.get_forces()
    stress = atoms.get_stress() if atoms.pbc.all() else None
    return {
        "head": atoms.calc.head_used,
        "formula": atoms.get_chemical_formula(),
        "atoms": len(atoms),
        "energy_eV": atoms.get_potential_energy(),
        "mean_force_eV_per_A": float(np.abs(forces).mean()),
        "max_force_eV_per_A": float(np.linalg.norm(forces, axis=1).max()),
        "pressure_GPa": None if stress is None else float(-stress[:3].mean() / GPa),
    }


def _print_zero_shot(rows: list[dict[str, Any]], console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "structure", "atoms", "level of theory (head)"):
        table.add_column(name, overflow="fold", justify="right" if name == "atoms" else "left")
    for name in ("energy\neV", "max |F|\neV/A", "pressure\nGPa"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        pressure = "-" if row["pressure_GPa"] is None else f"{row['pressure_GPa']:.2f}"
        numbers = (f"{row['energy_eV']:.3f}", f"{row['max_force_eV_per_A']:.2f}", pressure)
        table.add_row(row["kind"], row["name"], str(row["atoms"]), row["head"], *numbers)
    console.print(table)


# -- 2, 3 --------------------------------------------------------------------------------------


def _labels(settings: LabelSettings, out: Path, console: Console) -> tuple[Path, Path]:
    workers = min(os.cpu_count() or 1, settings.train_walkers + settings.test_walkers)
    with _bar(console, "labelling") as advance:

        def tell(done: int, total: int) -> None:
            advance(f"{done} of {total} frames", done / total)

        labels, test = label_system(out, settings, workers=workers, progress=tell)
    n_train, n_test = settings.train_walkers * settings.frames, settings.test_walkers * settings.frames
    console.print(f"{n_train} training labels: {labels}", soft_wrap=True)
    console.print(f"{n_test} test labels, of other trajectories: {test}", soft_wrap=True)
    return labels, test


def _learning_curve(settings: DemoSettings, labels: Path, test: Path, out: Path, console: Console) -> Curve:
    from lam.demo.curve import learning_curve

    stages, count = 2 * len(settings.sizes) + 1, 0
    with _bar(console, "training") as advance:

        def tell(text: str) -> None:
            nonlocal count
            advance(text, count / stages)
            count += 1

        return learning_curve(
            settings.model,
            labels,
            test,
            out,
            sizes=settings.sizes,
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            tell=tell,
        )


def _plots(curve: Curve, out: Path) -> list[Path]:
    from lam.demo.plots import plot_before_after, plot_curve

    return [plot_before_after(curve, out / "before-after.png"), plot_curve(curve, out / "error-vs-labels.png")]


def _print_curve(curve: Curve, console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("labels", justify="right")
    kinds = ("fine-tuned", "from scratch")
    for name in (*(f"{kind}\nF meV/A" for kind in kinds), "ratio", *(f"{kind}\nE meV/atom" for kind in kinds)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("0", f"{curve.before.force:.1f}", f"{curve.zero:.1f}*", "", f"{curve.before.energy:.2f}", "")
    for point in curve.points:
        fine, scratch = point.finetuned, point.scratch
        table.add_row(
            str(point.labels), f"{fine.force:.1f}", f"{scratch.force:.1f}", f"{fine.force / scratch.force:.2f}",
            f"{fine.energy:.2f}", f"{scratch.energy:.2f}",
        )  # fmt: skip
    console.print("Mean absolute errors on the test frames")
    console.print(table)
    console.print("0 labels: the shipped model; * predicting zero forces. Energies after fitting one offset.")


# -- progress ----------------------------------------------------------------------------------


@contextmanager
def _bar(console: Console, title: str) -> Iterator[Any]:
    """Yield ``advance(text, fraction)``: a bar on terminals, a line each time elsewhere."""
    if not console.is_terminal:
        yield lambda text, fraction: console.print(f"{title}: {text}")
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=1.0, text="")

        def advance(text: str, fraction: float) -> None:
            progress.update(task, completed=fraction, text=text)

        yield advance
        progress.update(task, completed=1.0, text="done")


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds >= 60 else f"{seconds:.0f} s"
