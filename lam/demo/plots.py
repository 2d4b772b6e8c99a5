"""The plots of the demo: predicted against reference values, and error against number of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lam.evaluate.plots import draw_parity
from lam.plot_style import BLUE, GREY, INK, ORANGE, new_figure

if TYPE_CHECKING:
    from lam.demo.curve import Curve
    from lam.evaluate import Evaluation


def plot_before_after(curve: Curve, path: Path) -> Path:
    """Draw energies and force components of the test frames, before and after fine-tuning."""
    size = curve.points[-1].labels
    rows = (
        ("pretrained", curve.parity_before, curve.before, ORANGE),
        (f"fine-tuned on {size} labels", curve.parity_after, curve.points[-1].finetuned, BLUE),
    )
    with new_figure(path, 8.2, 8.0) as figure:
        panels = figure.subplots(2, 2)
        for axes, (name, evaluation, errors, color) in zip(panels, rows, strict=True):
            reference, predicted = _energies(evaluation)
            draw_parity(axes[0], reference, predicted, unit="meV/atom", color=color)
            axes[0].set_title(f"Energy, {name}\nMAE {errors.energy:.1f} meV/atom")
            forces = evaluation.errors["test"].force_sample
            draw_parity(axes[1], forces.reference, forces.predicted, unit="eV/Å", color=color)
            axes[1].set_title(f"Forces, {name}\nMAE {errors.force:.0f} meV/Å")
    return path


def _energies(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Return reference and predicted energies per atom, meV/atom, from the mean reference on."""
    errors, entry = evaluation.errors["test"], evaluation.report["datasets"][0]
    reference, predicted = errors.energies.arrays
    composition = errors.energies.composition
    offset = errors.refit() if entry["energy"]["refitted"] else None
    if offset is not None:
        predicted = predicted + offset.apply(composition)
    sizes = composition.sum(axis=1)
    middle = (reference / sizes).mean()
    return 1000 * (reference / sizes - middle), 1000 * (predicted / sizes - middle)


def plot_curve(curve: Curve, path: Path) -> Path:
    """Draw the errors on the test frames against the number of labels."""
    sizes = [point.labels for point in curve.points]
    with new_figure(path, 9.0, 4.2) as figure:
        panels = figure.subplots(1, 2)
        for axes, name, unit in zip(panels, ("force", "energy"), ("meV/Å", "meV/atom"), strict=True):
            before = getattr(curve.before, name)
            axes.axhline(before, color=INK, linestyle="--", linewidth=1, label="pretrained, no labels")
            if name == "force":
                axes.axhline(curve.zero, color=GREY, linestyle=":", linewidth=1.2, label="predicting zero")
            for kind, color, marker, label in (
                ("scratch", ORANGE, "s", "from scratch"),
                ("finetuned", BLUE, "o", "fine-tuned"),
            ):
                values = [getattr(getattr(point, kind), name) for point in curve.points]
                axes.plot(sizes, values, color=color, marker=marker, label=label)
                for size, value in zip(sizes, values, strict=True):
                    text = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
                    axes.annotate(text, (size, value), (0, 7), textcoords="offset points", ha="center", fontsize=8)
            axes.set(xscale="log", yscale="log", xlabel="Number of labels", ylabel=f"{name.capitalize()} MAE ({unit})")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            _plain_ticks(axes)
            axes.margins(x=0.12, y=0.18)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.suptitle("Test error of alanine dipeptide (GFN2-xTB)", fontsize=11)
    return path


def _plain_ticks(axes: object) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10, ... instead of powers of ten."""
    low, high = axes.get_ylim()
    steps = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
    inside = [step for step in steps if 0.8 * low <= step <= 1.25 * high]
    axes.set_yticks(inside, [f"{step:g}" for step in inside])
