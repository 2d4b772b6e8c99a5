"""The look that all plots of `lam` share, and their writing to disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.figure import Figure

from lam.atomic_write import atomic_file

BLUE: Final = "#1f6fb4"
ORANGE: Final = "#d9730d"
GREY: Final = "#8a8f98"
INK: Final = "#20242a"

_RC: Final = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "figure.facecolor": "white",
}


@contextmanager
def new_figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of ``width`` x ``height`` inches; it is written to ``path`` at the end.

    The figure is no part of pyplot: no window, no global state, no back end to choose.
    """
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
        yield figure
        with atomic_file(path) as temporary:
            figure.savefig(temporary, dpi=150)
