"""Do numbers fall into two separate populations?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EMPTY = 2.5
"""The gap must be this many times wider than both populations together (their 5% to 95% range)."""
MIN_SHARE = 0.02
MIN_COUNT = 4


@dataclass(frozen=True)
class Populations:
    """Two populations with nothing between them."""

    upper: np.ndarray
    """(n,) bool: which numbers are in the upper one."""
    offset: float
    """Between the medians."""
    contrast: float
    """Width of the gap over the widths of both populations."""


def two_populations(values: np.ndarray, *, empty: float = EMPTY) -> Populations | None:
    """Return the two populations that finite ``values``, (n,), fall into, or None if they are one (or more than two).

    Each needs :data:`MIN_COUNT` members and :data:`MIN_SHARE` of all. A single outlier is not a population.
    """
    order = np.sort(values)
    count = len(order)
    least = max(MIN_COUNT, int(np.ceil(MIN_SHARE * count)))
    if count < 2 * least:
        return None
    gaps = np.diff(order)[least - 1 : count - least]
    place = int(np.argmax(gaps)) + least
    lower, upper = order[:place], order[place:]
    width = sum(float(np.subtract(*np.quantile(part, (0.95, 0.05)))) for part in (lower, upper))
    gap = float(order[place] - order[place - 1])
    if gap <= 0 or gap < empty * width:
        return None
    offset = float(np.median(upper) - np.median(lower))
    return Populations(values >= order[place], offset, gap / max(width, 1e-12))
