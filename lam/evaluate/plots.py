"""Plots of an evaluation: predicted against reference values, errors per data set and per element."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib
import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch, Rectangle

from lam.plot_style import BLUE, FAINT, GREY, INK, ORANGE, PALE, ink_on, new_figure, periodic_position

if TYPE_CHECKING:
    from lam.evaluate.evaluate import Evaluation

_DENSITY_FROM: Final = 800
"""More points than this are drawn as a density."""


def write_plots(evaluation: Evaluation, folder: str | Path) -> list[Path]:
    """Write every plot that the data allow into ``folder`` and return their paths."""
    folder = Path(folder)
    written = [plot_parity(evaluation, folder / "parity.png")]
    report = evaluation.report
    if any(entry["forces"] for entry in report["datasets"]):
        written.append(plot_force_ratios(report, folder / "force-ratio.png"))
        written.append(plot_elements(report, folder / "elements.png"))
    return written


# -- parity ------------------------------------------------------------------------------------


def plot_parity(evaluation: Evaluation, path: str | Path) -> Path:
    """Draw predicted against reference energy, forces and stress, all data sets together.

    Energies are per atom and relative to the composition-only baseline, which puts data sets with
    different zeros of energy on the same axes; they include the refitted offset where the report does.
    """
    panels = []
    energies = _energy_pairs(evaluation)
    if len(energies):
        panels.append(("Energy (composition removed)", "eV/atom", energies, len(energies)))
    for title, unit, name in (("Force components", "eV/Å", "force"), ("Stress components", "eV/Å³", "stress")):
        samples = [getattr(errors, f"{name}_sample") for errors in evaluation.errors.values()]
        pairs = np.concatenate([np.stack([s.reference, s.predicted], axis=1) for s in samples])
        if len(pairs):
            panels.append((title, unit, pairs, sum(s.offered for s in samples)))
    with new_figure(path, 4.1 * max(len(panels), 1), 4.0) as figure:
        for column, (title, unit, pairs, total) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), column + 1)
            draw_parity(axes, pairs[:, 0], pairs[:, 1], unit=unit, total=total)
            axes.set_title(title)
    return Path(path)


def _energy_pairs(evaluation: Evaluation) -> np.ndarray:
    parts = [np.empty((0, 2))]
    for entry in evaluation.report["datasets"]:
        errors, baseline = evaluation.errors[entry["name"]], evaluation.baselines.get(entry["name"])
        if baseline is None:
            continue
        composition = errors.energies.composition
        reference, predicted = errors.energies.arrays
        offset = errors.refit() if entry["energy"]["refitted"] else None
        if offset is not None:
            predicted = predicted + offset.apply(composition)
        flat, sizes = baseline.apply(composition), composition.sum(axis=1)
        parts.append(np.stack([(reference - flat) / sizes, (predicted - flat) / sizes], axis=1))
    return np.concatenate(parts)


def draw_parity(
    axes: Axes,
    reference: np.ndarray,
    predicted: np.ndarray,
    *,
    unit: str,
    color: str = BLUE,
    total: int | None = None,
) -> None:
    """Draw points (few) or a density (many) of ``predicted`` over ``reference`` with the diagonal.

    Both axes have the same limits, which hold all but the outermost 0.1 % of the reference values;
    what lies outside is counted in a corner.

    Args:
        axes: where to draw.
        reference: (K,), in ``unit``.
        predicted: (K,), in ``unit``.
        unit: of both.
        color: of points.
        total: number of values of which these are a sample.
    """
    low, high = _limits(reference)
    inside = (reference >= low) & (reference <= high) & (predicted >= low) & (predicted <= high)
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle="--", zorder=3)
    if len(reference) > _DENSITY_FROM:
        axes.hexbin(
            reference[inside], predicted[inside], gridsize=70, extent=(low, high, low, high),
            mincnt=1, cmap="viridis", norm=LogNorm(), linewidths=0.1,
        )  # fmt: skip
    else:
        axes.scatter(reference[inside], predicted[inside], s=10, color=color, alpha=0.6, linewidths=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"Reference ({unit})")
    axes.set_ylabel(f"Predicted ({unit})")
    axes.locator_params(nbins=5)
    sampled = total is not None and total > len(reference)
    lines = [f"{len(reference):,} of n = {total:,}" if sampled else f"n = {len(reference):,}"]
    if outside := int(np.count_nonzero(~inside)):
        lines.append(f"{outside:,} outside the frame")
    axes.text(0.04, 0.96, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=8, color=INK)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.0005, 0.9995])
    margin = 0.06 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


# -- per data set ------------------------------------------------------------------------------


def plot_force_ratios(report: dict[str, Any], path: str | Path) -> Path:
    """Draw the force error over that of predicting zero, one bar per data set with force labels."""
    entries = sorted(
        (e for e in report["datasets"] if e["forces"] and e["forces"]["ratio_mae"] is not None),
        key=lambda e: (e["informative"], -e["forces"]["ratio_mae"]),
    )
    ratios = np.array([e["forces"]["ratio_mae"] for e in entries])
    colors = [(BLUE if r < 1 else ORANGE) if e["informative"] else GREY for e, r in zip(entries, ratios, strict=True)]
    longest = float(np.clip(ratios, 1.0, 1.5).max(initial=1.0))
    with new_figure(path, 7.5, 1.3 + 0.24 * max(len(entries), 3)) as figure:
        axes = figure.add_subplot()
        axes.barh(np.arange(len(entries)), np.minimum(ratios, longest), color=colors, height=0.72)
        for row, (entry, value) in enumerate(zip(entries, ratios, strict=True)):
            cut = "  (bar cut)" if value > longest else ""
            axes.text(longest * 1.10, row, f"{value:.2f}", va="center", ha="right", fontsize=8, color=INK)
            text = f"{entry['forces']['mae']:.0f} / {entry['forces']['baseline_mae']:.0f}{cut}"
            axes.text(longest * 1.14, row, text, va="center", fontsize=8, color=GREY)
        axes.axvline(1.0, color=INK, linewidth=0.9, linestyle="--", zorder=3)
        axes.set_yticks(np.arange(len(entries)), [e["name"] for e in entries], fontsize=8)
        axes.set_ylim(-0.6, len(entries) - 0.4)
        axes.set_xlim(0, longest * 1.5)
        axes.set_xticks(np.arange(0, longest + 0.01, 0.25))
        axes.spines["bottom"].set_bounds(0, longest)
        axes.set_xlabel("Force MAE / MAE of predicting zero forces;  right: ratio, both MAEs in meV/Å")
        axes.set_title(_ratio_title(report["summary"]))
        threshold = report["summary"]["force_threshold"] / 1000
        handles = [
            Patch(color=color, label=label)
            for color, label in (
                (BLUE, "better than zero"),
                (ORANGE, "worse than zero"),
                (GREY, f"apart: mean |F| below {threshold:g} eV/Å"),
            )
            if color in colors
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return Path(path)


def _ratio_title(summary: dict[str, Any]) -> str:
    if summary["median_force_ratio_mae"] is None:
        return "Force errors per data set"
    ratio, count = summary["median_force_ratio_mae"], summary["n_sets"]
    return f"Force errors per data set: median ratio {ratio:.2f} over {count} sets"


# -- per element -------------------------------------------------------------------------------

_CMAP: Final = "viridis_r"


def plot_elements(report: dict[str, Any], path: str | Path) -> Path:
    """Draw a periodic table coloured by force error: the MAE in meV/Angstrom, below it the atoms seen."""
    table = {s: row for s, row in report["elements"].items() if row["force_mae"] is not None}
    values = np.array([row["force_mae"] for row in table.values()])
    norm = _colour_scale(values[values > 0])
    with new_figure(path, 11.0, 6.0) as figure:
        axes = figure.add_subplot()
        colormap = matplotlib.colormaps[_CMAP]
        for number in range(1, 104):
            symbol = chemical_symbols[number]
            row, column = periodic_position(number)
            known = table.get(symbol)
            color = colormap(norm(max(known["force_mae"], norm.vmin))) if known else PALE
            axes.add_patch(Rectangle((column, -row), 0.94, -0.94, facecolor=color, edgecolor="none"))
            _label_element(axes, column, row, symbol, known, color)
        axes.set(xlim=(-0.1, 18.1), ylim=(-9.5, 0.1), aspect="equal")
        axes.axis("off")
        axes.set_title(f"Force MAE per element (meV/Å) and number of atoms, model {report['model']}")
        scale = matplotlib.cm.ScalarMappable(norm=norm, cmap=_CMAP)
        bar = figure.colorbar(scale, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.02)
        bar.set_label("Force MAE (meV/Å)")
        if isinstance(norm, LogNorm):
            steps = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
            bar.set_ticks([step for step in steps if norm.vmin <= step <= norm.vmax], minor=False)
            bar.ax.minorticks_off()
            bar.ax.xaxis.set_major_formatter("{x:g}")
    return Path(path)


def _colour_scale(values: np.ndarray) -> Normalize:
    if not len(values):
        return Normalize(0, 1)
    low, high = float(values.min()), float(values.max())
    low = max(low, high / 1000)  # zero by symmetry is no accuracy: three decades are enough
    return LogNorm(low, high) if high > 3 * low else Normalize(0, high)


def _label_element(axes: Axes, column: int, row: float, symbol: str, known: dict[str, Any] | None, color: Any) -> None:
    middle = column + 0.47
    if known is None:
        axes.text(middle, -row - 0.47, symbol, ha="center", va="center", fontsize=8, color=FAINT)
        return
    ink = ink_on(color)
    axes.text(middle, -row - 0.27, symbol, ha="center", va="center", fontsize=9, weight="bold", color=ink)
    axes.text(middle, -row - 0.54, f"{known['force_mae']:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
    axes.text(middle, -row - 0.78, _short(known["n_atoms"]), ha="center", va="center", fontsize=6, color=ink)


def _short(count: int) -> str:
    """Write a count in at most four characters: 950, 12k, 3.4M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            scaled = count / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return str(count)
