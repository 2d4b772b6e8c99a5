"""Plots of an audit: energies, forces, work, distances, elements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from lam.data.audit.auditor import Audited
from lam.data.consistency import PairCheck
from lam.plot_style import BLUE, FAINT, GREY, INK, ORANGE, PALE, ink_on, new_figure, periodic_position

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 80
_MOST_POINTS = 5000


def write_plots(audited: Audited, folder: str | Path) -> list[Path]:
    """Write every plot that the data allow to ``folder``, named after the data set; return their paths."""
    folder, name = Path(folder), audited.data.name
    plots = {
        "energies": _energies,
        "forces": _forces,
        "work": _work,
        "distances": _distances,
        "elements": _elements,
    }
    written = []
    for kind, plot in plots.items():
        path = folder / f"{name}-{kind}.png"
        if plot(audited, path):
            written.append(path)
    return written


def _column(audited: Audited, name: str) -> np.ndarray:
    values = audited.auditor.ledger[name].astype(float)
    return values[np.isfinite(values)]


def _histogram(axes: Axes, values: np.ndarray, label: str, *, logarithmic: bool = False) -> None:
    """Draw a histogram over the middle of the values, and say how many lie outside of it."""
    if logarithmic:
        values = values[values > 0]
        bins = np.geomspace(values.min(), values.max() * 1.001, _BINS) if len(values) else 10
        axes.set_xscale("log")
    else:
        low, high = np.quantile(values, (0.001, 0.999))
        margin = 0.05 * max(high - low, 1e-6)
        inside = values[(values >= low - margin) & (values <= high + margin)]
        if len(inside) < len(values):
            lowest, highest = f"{values.min():.3g}", f"{values.max():.3g}"
            text = f"{len(values) - len(inside)} outside: from {lowest} to {highest}"
            axes.text(0.98, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=ORANGE)
        values, bins = inside, _BINS
    axes.hist(values, bins=bins, color=BLUE)
    axes.set(xlabel=label, ylabel="Structures", yscale="log")


def _energies(audited: Audited, path: Path) -> bool:
    residual = _column(audited, "residual")
    if not len(residual):
        return False
    with new_figure(path, 5.4, 3.8) as figure:
        axes = figure.add_subplot()
        _histogram(axes, residual, "Energy less its composition fit (eV/atom)")
        axes.set_title(f"{audited.data.name}: energies")
    return True


def _forces(audited: Audited, path: Path) -> bool:
    largest, net = _column(audited, "largest_force"), _column(audited, "net_force")
    if not len(largest[largest > 0]):
        return False
    with new_figure(path, 9.0, 3.8) as figure:
        _histogram(figure.add_subplot(1, 2, 1), largest, "Largest force component (eV/Å)", logarithmic=True)
        axes = figure.add_subplot(1, 2, 2)
        _histogram(axes, np.maximum(net, 1e-9), "Net force per atom (eV/Å; at least 1e-9)", logarithmic=True)
        figure.suptitle(f"{audited.data.name}: forces")
    return True


def _work(audited: Audited, path: Path) -> bool:
    check = audited.auditor.work.consistency
    sides = [("forces", "-F·dx (eV)", check.forces), ("stress", "V stress:strain (eV)", check.stress)]
    sides = [side for side in sides if len(side[2].reliable()) >= 3]
    if not sides:
        return False
    with new_figure(path, 4.4 * len(sides), 4.2) as figure:
        for column, (name, label, pairs) in enumerate(sides):
            axes = figure.add_subplot(1, len(sides), column + 1)
            _scatter(axes, pairs)
            what = "Change of energy (eV)" if name == "forces" else "Change of energy without forces' work (eV)"
            axes.set(xlabel=label, ylabel=what)
        figure.suptitle(f"{audited.data.name}: energies against forces and stress")
    return True


def _scatter(axes: Axes, pairs: PairCheck) -> None:
    work, change = pairs.sides()
    step = max(1, len(work) // _MOST_POINTS)
    slope, correlation, count = pairs.slope()
    axes.plot(work[::step], change[::step], ".", color=BLUE, markersize=3, alpha=0.5, rasterized=True)
    reach = np.quantile(np.abs(work), 0.99) * np.array([-1.1, 1.1])
    high = max(np.quantile(np.abs(change), 0.99) * 1.1, abs(reach[1]))
    axes.plot(reach, reach, color=INK, linewidth=1, label="slope 1: consistent")
    if np.isfinite(slope):
        text = f"slope {slope:.3g}, correlation {correlation:.2f}, {count} pairs"
        axes.plot(reach, slope * reach, color=ORANGE, linewidth=1, linestyle="--", label=text)
    axes.set(xlim=reach, ylim=(-high, high))
    axes.legend(loc="upper left", fontsize=8)


def _distances(audited: Audited, path: Path) -> bool:
    ratio, nearest = _column(audited, "bond_ratio"), _column(audited, "nearest")
    if not len(ratio):
        return False
    with new_figure(path, 9.0, 3.8) as figure:
        _histogram(figure.add_subplot(1, 2, 1), nearest, "Shortest distance (Å)")
        axes = figure.add_subplot(1, 2, 2)
        _histogram(axes, ratio, "Nearest pair over the sum of covalent radii")
        axes.axvspan(0.6, 1.5, color=GREY, alpha=0.15, linewidth=0)
        figure.suptitle(f"{audited.data.name}: distances (grey: where bonds are)")
    return True


def _elements(audited: Audited, path: Path) -> bool:
    import matplotlib
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    ledger = audited.auditor.ledger
    present = ledger.element_counts() > 0
    counts = np.bincount(ledger["composition"], minlength=len(present)) @ present
    norm = LogNorm(0.5, max(2.0, float(counts.max())))
    colours = matplotlib.colormaps["viridis"]
    with new_figure(path, 11.0, 6.0) as figure:
        axes = figure.add_subplot()
        for number in range(1, 104):
            row, column = periodic_position(number)
            colour = colours(norm(counts[number])) if counts[number] else PALE
            axes.add_patch(Rectangle((column, -row), 0.94, -0.94, facecolor=colour, edgecolor="none"))
            ink = ink_on(colour) if counts[number] else FAINT
            middle = (column + 0.47, -row - (0.34 if counts[number] else 0.47))
            axes.text(*middle, chemical_symbols[number], ha="center", va="center", fontsize=9, color=ink)
            if counts[number]:
                axes.text(middle[0], -row - 0.7, f"{counts[number]}", ha="center", va="center", fontsize=7, color=ink)
        axes.set(xlim=(-0.1, 18.1), ylim=(-9.5, 0.1), aspect="equal")
        axes.axis("off")
        axes.set_title(f"{audited.data.name}: structures with each element")
    return True
