"""The look that all plots of the project share, and their writing to disk. matplotlib loads when one is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lam.atomic_write import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE: Final = "#1f6fb4"
ORANGE: Final = "#d9730d"
GREY: Final = "#8a8f98"
INK: Final = "#20242a"
PALE: Final = "#eef0f2"
"""Ground of what has no value."""
FAINT: Final = "#b4b9c0"
"""Text of what has no value."""

RC: Final[dict[str, Any]] = {
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
"""Settings of matplotlib; for figures that :func:`new_figure` does not make: ``with matplotlib.rc_context(RC)``."""
_ROWS: Final = (2, 8, 8, 18, 18, 32, 32)


@contextmanager
def new_figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of ``width`` x ``height`` inches; it is written to ``path`` at the end.

    The figure is no part of pyplot: no window, no global state, no back end to choose.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
        yield figure
        with atomic_file(path) as temporary:
            figure.savefig(temporary, dpi=150)


def ink_on(colour: Any) -> str:
    """Return the colour of text that can be read on a colour (red, green, blue, each 0 to 1)."""
    red, green, blue = colour[:3]
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.55 else INK


def periodic_position(number: int) -> tuple[float, int]:
    """Return row (0 top; f elements a little below the others, at 7.4 and 8.4) and column (0-17) of an element."""
    period, first = 0, 1
    while number >= first + _ROWS[period]:
        first += _ROWS[period]
        period += 1
    place, length = number - first, _ROWS[period]
    if length == 32 and 2 <= place < 17:
        return period + 2.4, place
    if place < 2:
        return float(period), place if number != 2 else 17
    return float(period), 18 - (length - place)
