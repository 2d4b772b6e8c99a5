"""Single groups, pairs and frames whose energies do not fit, in data that fits as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lam.data.audit.bonds import rank_correlation
from lam.data.audit.finding import EXAMPLES, Finding, few
from lam.data.audit.ledger import Ledger, grouped
from lam.data.audit.populations import two_populations
from lam.data.consistency import FORCE_FACTORS, MIN_PAIRS, Consistency, PairCheck

FEW_OF_GROUP = 8
SCATTER = 0.35
WRONG_GROUP = (0.5, 2.0)
"""A group is at odds with the others if the median of its slopes lies outside."""
STEEP = 0.2
"""Share of the curvature of the work that the trapezoid rule may be wrong by."""
LAGGED, LAG_GAIN = 0.7, 0.3
"""Rank correlation of the work with the energies of other frames, and by how much it must be above its own."""
LEAST_JUMP = 0.05  # eV
MIN_JUMPS, MIN_ODD = 6, 5  # pairs
JUMP = 12.0
"""Robust standard deviations that the energy of one frame is off from both its neighbours."""


def odd_groups(check: PairCheck, ledger: Ledger) -> Iterator[Finding]:
    """Groups whose forces do not fit their energies, though those of the others do."""
    reliable = check.reliable()
    work, change = check.sides(reliable)
    tags = np.array(check.tag)[reliable]
    rows = _rows_of(ledger, tags)
    ratios = (change / work)[np.isin(tags, ledger["index"][rows])]
    if not len(rows):
        return
    texts, names, count = [], [], 0
    for members in grouped(ledger["group"][rows]):
        slope = float(np.median(ratios[members]))
        spread = float(np.median(np.abs(ratios[members] / slope - 1))) if slope else 9.0
        # Slopes that scatter tell of frames too far apart or of noise, not of a unit.
        if len(members) >= FEW_OF_GROUP and not WRONG_GROUP[0] < slope < WRONG_GROUP[1] and spread < SCATTER:
            nearest = min(FORCE_FACTORS, key=lambda factor: abs(slope / factor - 1))
            fits = abs(slope / nearest - 1) < 0.12
            says = f": probably {FORCE_FACTORS[nearest]}" if fits else ""
            texts.append(f"'{ledger.group_of(rows[members[0]])}' (slope {slope:.3g} over {len(members)} pairs{says})")
            names += ledger.names(rows[members])
            count += len(members)
    if texts:
        more = f"; and {len(texts) - EXAMPLES} more" if len(texts) > EXAMPLES else ""
        yield Finding(
            "warning",
            "units",
            f"energies and forces belong together, but not in {len(texts)} group(s): "
            + "; ".join(texts[:EXAMPLES])
            + more,
            tuple(names[:50]),
            count,
            0.7,
            "the slope of dE against -F.dx of these groups is far from 1",
            "look for another unit, a wrong sign, or calculations that did not converge in these groups",
        )


def other_factors(check: PairCheck, ledger: Ledger) -> Iterator[Finding]:
    """A part of the pairs whose forces have a mistake that those of the others have not."""
    work, change = check.sides()
    tags = np.array(check.tag)[check.reliable()]
    ratios = change / work
    odd = np.abs(np.log(np.maximum(np.abs(ratios), 1e-9))) > np.log(1.7)
    odd |= ratios < 0
    for factor, mistake in FORCE_FACTORS.items():
        fits = odd & (np.abs(ratios / factor - 1) < 0.1)
        if fits.sum() >= max(MIN_ODD, 0.02 * len(ratios)) and fits.sum() > 0.6 * odd.sum():
            rows, count = _rows_of(ledger, tags[fits]), int(fits.sum())
            yield Finding(
                "warning",
                "units",
                f"energies and forces belong together, but in {count} of {len(ratios)} similar pairs probably "
                f"{mistake}: {few(list(ledger.names(rows)), int(fits.sum()))}",
                ledger.names(rows),
                int(fits.sum()),
                0.8,
                f"their slopes are within 10% of {factor:.4g}; {int((odd & ~fits).sum())} other pairs are off",
                "correct these structures; a pair whose slope is off may have only one wrong frame",
            )


def _rows_of(ledger: Ledger, tags: np.ndarray) -> np.ndarray:
    """Return the rows of places in the source, (n,); those that are not kept are left out."""
    tags = tags[tags >= 0]
    rows = np.minimum(np.searchsorted(ledger["index"], tags), len(ledger) - 1)
    return rows[ledger["index"][rows] == tags]


def judge_steps(check: Consistency, ledger: Ledger) -> Iterator[Finding]:
    """Energies that jump between structures where forces and stress say that they should not."""
    steps = check.steps
    if len(steps.work) < MIN_PAIRS:
        return
    slopes = []
    for side in (check.forces, check.stress):
        slopes.append(side.slope()[0] if side.telling() else 1.0)
    rest = np.array(steps.change) - slopes[0] * np.array(steps.work) - slopes[1] * np.array(steps.explained)
    sizes, tags, curved = np.array(check.sizes)[: len(rest)], np.array(steps.tag), STEEP * np.array(steps.curvature)
    levels = _two_levels(rest, sizes)
    if levels is not None:
        offset, high = levels
        total = float(np.median(np.abs(rest[high])))
        rows = _rows_of(ledger, tags[high])
        yield Finding(
            "warning",
            "theory",
            f"energies jump by {offset:.4g} eV/atom ({total:.4g} eV) in {int(high.sum())} of {len(rest)} like pairs, "
            f"and by nothing in the others: mixed levels of theory, charge or spin states? "
            f"{few(list(ledger.names(rows)), int(high.sum()))}",
            ledger.names(rows),
            int(high.sum()),
            0.85,
            "forces and stress explain the other pairs; the jumps are all of one size",
            "make data sets of their own of the levels of theory, or state charge and spin",
        )
        return
    own = slice(0, check.followed)
    yield from _jumps(rest[own], curved[own], tags[own], ledger)


def judge_lag(check: Consistency) -> Iterator[Finding]:
    """Are the energies those of the frame before or after?"""
    own = slice(0, check.followed)
    work, change, tags = (np.array(values)[own] for values in (check.steps.work, check.steps.change, check.steps.tag))
    work = work + np.array(check.steps.explained)[own]
    follows = np.flatnonzero((tags[1:] == tags[:-1] + 1) & (tags[:-1] >= 0))
    if len(follows) < MIN_PAIRS:
        return
    fits = {lag: rank_correlation(work[follows + (lag < 0)], change[follows + (lag > 0)]) for lag in (1, -1)}
    fits[0] = rank_correlation(work, change)
    best = max((1, -1), key=lambda lag: abs(fits[lag]))
    if abs(fits[best]) > LAGGED and abs(fits[best]) > abs(fits[0]) + LAG_GAIN:
        which = "later" if best > 0 else "earlier"
        yield Finding(
            "warning",
            "units",
            f"energies and forces do not belong together: the work of the forces fits the energies one frame {which} "
            f"(correlation {fits[best]:.2f}, their own {fits[0]:.2f})",
            (),
            len(follows),
            0.9,
            "dE = -F.dx holds between other frames than these",
            "read energies and positions of the same frame; one of the two lists is one frame off",
        )


def _two_levels(rest: np.ndarray, sizes: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Return the size of the jumps (eV/atom) and which pairs they are in, if all are of one size, in eV or per atom."""
    for scale in (sizes, np.ones_like(sizes)):
        values = np.abs(rest) / scale
        found = two_populations(values, empty=2.0)
        if found is None:
            continue
        high = values[found.upper]
        narrow = np.subtract(*np.quantile(high, (0.9, 0.1))) < 0.3 * np.median(high)
        if narrow and found.upper.sum() >= MIN_JUMPS and np.median(np.abs(rest[found.upper])) > LEAST_JUMP:
            return float(np.median(np.abs(rest[found.upper]) / sizes[found.upper])), found.upper
    return None


def _jumps(rest: np.ndarray, curved: np.ndarray, tags: np.ndarray, ledger: Ledger) -> Iterator[Finding]:
    """Frames whose energy does not fit those before and after, though these fit each other."""
    if len(rest) < MIN_PAIRS:
        return
    scale = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    limit = max(JUMP * scale, LEAST_JUMP)
    follows = (tags[1:] == tags[:-1] + 1) & (tags[:-1] >= 0)
    up, down = rest[:-1], rest[1:]
    odd = follows & (np.abs(up) > limit + curved[:-1]) & (np.abs(down) > limit + curved[1:])
    odd &= np.abs(up + down) < 0.2 * np.abs(up - down)
    # Alternating energies are noise of all frames, not a mistake of one: what is before and after must be calm.
    outer = np.maximum(np.abs(np.append(0.0, rest[:-2])), np.abs(np.append(rest[2:], 0.0)))
    odd &= outer < 0.3 * np.abs(up)
    places = [place for place in np.flatnonzero(odd).tolist() if len(_rows_of(ledger, tags[place : place + 1]))]
    if not places:
        return
    rows = _rows_of(ledger, tags[places])
    texts = [f"{ledger.name(row)} ({up[place]:+.2f} eV)" for row, place in zip(rows.tolist(), places, strict=True)]
    yield Finding(
        "warning",
        "outliers",
        f"{len(rows)} frame(s) have an energy that does not fit the frames before and after: {few(texts)}",
        ledger.names(rows),
        len(rows),
        0.85,
        f"the jump there and back is more than {JUMP:g} times the usual mismatch of dE and the work done",
        "compute these anew or leave them out",
    )
