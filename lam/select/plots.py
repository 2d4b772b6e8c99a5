"""A picture of a selection: how far it covers the pool as it grows, and what it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lam.plot_style import BLUE, GREY, INK, new_figure

_BARS = 14
"""Data sets, or elements, that have bars."""


def plot_selection(path: Path, report: dict[str, Any]) -> None:
    """Write the plot of a report (see :func:`lam.select.run.select`)."""
    curve = report["curve"]
    with new_figure(path, 10.0, 4.2) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        known = [(n, value) for n, value in zip(curve["number"], curve["value"], strict=True) if value is not None]
        if known:
            numbers, values = zip(*known, strict=True)
            left.plot(numbers, values, color=BLUE, lw=1.6)
            left.set(xlabel="structures chosen", ylabel=curve["meaning"], ylim=(0, None))
            left.set_title(f"by {report['by']}")
        else:
            left.text(0.5, 0.5, "chosen at random", ha="center", va="center", color=INK, transform=left.transAxes)
            left.axis("off")
        what = "dataset" if len(report["datasets"]) > 1 else "element"
        totals = {"pool": report["pool"]["structures"], "chosen": report["budget"]}
        _bars(right, what, report[f"{what}s"], totals)


def _bars(axes: Any, what: str, table: dict[str, dict[str, int]], totals: dict[str, int]) -> None:
    """Draw the shares of pool and selection that are of each data set, or have each element."""
    names = sorted(table, key=lambda name: -table[name]["pool"])[:_BARS]
    places = range(len(names))
    for shift, kind, colour in ((-0.2, "pool", GREY), (0.2, "chosen", BLUE)):
        shares = [100 * table[name][kind] / totals[kind] for name in names]
        heights = [place + shift for place in places]
        axes.barh(heights, shares, height=0.4, color=colour, label=f"{kind}, {totals[kind]} structures")
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set_xlabel("of the structures, %" if what == "dataset" else "of the structures have the element, %")
    more = len(table) - len(names)
    axes.set_title(("data sets" if what == "dataset" else "elements") + (f" ({more} more)" if more > 0 else ""))
    axes.legend(loc="lower right")
