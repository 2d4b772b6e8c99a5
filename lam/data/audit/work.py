"""Energy against forces (dE = -F.dx) and stress (dE = V sigma:eps), along trajectories and between like structures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.spatial import cKDTree

from lam.data.audit.bonds import Springs
from lam.data.audit.check import Check, Context, View
from lam.data.audit.duplicates import search_keys
from lam.data.audit.finding import Finding, Repair
from lam.data.audit.ledger import Ledger, grouped
from lam.data.audit.steps import judge_lag, judge_steps, odd_groups, other_factors
from lam.data.audit.units import OFF, TYPICAL, Units, explain
from lam.data.consistency import (
    FORCE_FACTORS,
    MIN_PAIRS,
    MOST_AGREE,
    STRESS_FACTORS,
    VIRIAL_FACTORS,
    Consistency,
    PairCheck,
)

ENOUGH = 100
"""Pairs of a trajectory that suffice; with fewer, similar structures elsewhere in the data are compared, too."""
MOST_EXTRA, MOST_TRIED = 200, 1000
CERTAIN_SLOPE, CERTAIN_SHARE, CERTAIN_CORRELATION = 0.04, 0.9, 0.97
"""A correction is certain if slope, share of the pairs and correlation leave no other explanation."""


class Work(Check):
    """Compares neighbouring frames as they come, and similar ones at the end where these are few."""

    def __init__(self) -> None:
        self.consistency = Consistency()
        self.bonds: Callable[[Ledger, Context], Springs] | None = None
        """Measures what the bonds say of the forces."""
        self.named: set[str] = set()
        """Labels that energies have said something about: right, or what mistake it is."""
        self.forces_right: bool | None = None
        """Are the forces as large as bonds make them? None if that is not known."""

    def see(self, view: View) -> None:
        """Compare with the frame before."""
        self.consistency.update(view.structure, view.index)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Judge slopes, then single groups and frames."""
        check = self.consistency
        no_stress = not np.isfinite(ledger["pressure"]).any() or len(check.stress.reliable()) >= ENOUGH
        if len(check.forces.reliable()) < ENOUGH or not no_stress:
            self._compare_similar(ledger, context)
        slope, _, _ = check.forces.slope()
        right = check.forces.telling()
        units = self._explained(ledger, context) if right else None
        for finding in judge_forces(check.forces, ledger, units, self.forces_right):
            # If bonds say that the unit is wrong, and no units explain both, they say so themselves.
            yield finding if self.forces_right is False and units is None else self._note("forces", finding)
        for stress in (check.stress, check.virial):
            stress.share = slope if right else 1.0
        yield from self._judge_stress()
        if right and 0.6 < slope < 1.6:
            yield from odd_groups(check.forces, ledger)
            yield from other_factors(check.forces, ledger)
        yield from judge_steps(check, ledger)
        if not right:
            yield from judge_lag(check)

    def _note(self, label: str, finding: Finding) -> Finding:
        """Remember that something is known of a label."""
        if finding.confidence > 0.6:
            self.named.add(label)
        return finding

    def _explained(self, ledger: Ledger, context: Context) -> Units | None:
        """Return the units of energies and forces that explain both their slope and the bonds, if bonds can tell."""
        slope, _, _ = self.consistency.forces.slope()
        if self.bonds is None:
            return None
        springs = self.bonds(ledger, context)
        near = 1 / OFF < springs.ruler / TYPICAL < OFF
        self.forces_right = near if np.isfinite(springs.ruler) else None
        if 0.6 < slope < 1.6 and near and springs.correlation < 0.3:
            return None  # nothing is wrong
        return explain(slope, springs.ruler, springs.correlation)

    def _judge_stress(self) -> Iterator[Finding]:
        stress, virial = self.consistency.stress, self.consistency.virial
        slope, correlation, pairs = virial.slope()
        looks = [f for f in VIRIAL_FACTORS if abs(slope / f - 1) < 0.1 and abs(correlation) > CERTAIN_CORRELATION]
        own = stress.slope()[0]
        # At one volume both are as good; a stress with slope 1 is right, and no volume is 1 cubic Angstrom.
        if looks and not 0.6 < abs(own) < 1.6 and virial.agreement(looks[0]) > stress.agreement(own) - 0.02:
            self.named.add("stress")
            yield Finding(
                "warning",
                "units",
                f"dE against stress:strain over {pairs} similar pairs has slope {slope:.4g}, correlation "
                f"{correlation:.2f}: probably {VIRIAL_FACTORS[looks[0]]}",
                (),
                pairs,
                0.9,
                "the volume is missing in the energy of strain",
                "name the key REF_virials if it is -V*stress (lam divides it), or divide it by the volume",
            )
            return
        for finding in judge_pairs("stress", stress, STRESS_FACTORS):
            yield self._note("stress", finding)

    def _compare_similar(self, ledger: Ledger, context: Context) -> None:
        """Add pairs of structures that are similar by fingerprint, wherever they are in the data."""
        labelled = np.isfinite(ledger["energy"]) & np.isfinite(ledger["net_force"])
        keys = search_keys(ledger)
        budget, tries = MOST_EXTRA, MOST_TRIED
        groups = [rows[labelled[rows]] for rows in grouped(keys)]
        groups = [rows for rows in groups if len(rows) > 1]
        for rows in groups:
            share = max(4, 2 * MOST_EXTRA * len(rows) // max(1, sum(map(len, groups))))
            prints = ledger["fingerprint"][rows]
            chosen = np.arange(0, len(rows), max(1, len(rows) // share))
            apart, partners = cKDTree(prints).query(prints[chosen], k=min(4, len(rows)))
            for here, distances, others in zip(chosen.tolist(), apart, partners, strict=True):
                a = context.fetch(int(ledger["index"][rows[here]]))
                for distance, other in zip(distances, others, strict=True):
                    if distance <= 0 or other == here or abs(int(other) - here) == 1:
                        continue  # itself, a copy, or a pair that was seen already
                    tries -= 1
                    tag = int(ledger["index"][rows[other]])
                    b = context.fetch(tag)
                    if a is not None and b is not None and self.consistency.add(a, b, tag):
                        budget -= 1
                        break
                if budget <= 0 or tries <= 0:
                    return


def judge_forces(check: PairCheck, ledger: Ledger, units: Units | None, near: bool | None) -> Iterator[Finding]:
    """Say whether energies and forces belong together, and what mistake slope and bonds tell of.

    Args:
        check: the pairs.
        ledger: facts about the structures.
        units: units that explain both, if any do.
        near: are the forces as large as bonds make them, if that is known?
    """
    slope, correlation, pairs = check.slope()
    per_atom = _per_atom(check, ledger, 0.2 if near and units is None else 0.1)
    if per_atom is not None:
        yield Finding(
            "warning",
            "units",
            f"dE against -F.dx over {pairs} similar pairs has slope {slope:.4g}, correlation {correlation:.2f}: the "
            f"energies look like energies per atom{per_atom}",
            (),
            pairs,
            0.85 if not per_atom else 0.7,
            "the slope is one over the number of atoms",
            "store total energies: multiply each by its number of atoms",
        )
        return
    if units is None or units.right:
        yield from judge_pairs("forces", check, FORCE_FACTORS)
        return
    share = check.agreement(slope)
    certain = _certain(slope / units.slope, share, correlation)
    numbers = f"dE against -F.dx over {pairs} similar pairs has slope {slope:.4g}, correlation {correlation:.2f}"
    for text in units.mistakes:
        label, factor = ("energy", units.energy_factor) if "energies" in text else ("forces", units.force_factor)
        yield Finding(
            "warning",
            "units",
            f"{numbers}, and bonds say how large forces are: probably {text}",
            (),
            pairs,
            round(min(0.97, max(abs(correlation), share)), 2),
            f"{share:.0%} of the pairs are within 30% of the slope; no other units explain slope and bonds",
            f"multiply the {label} by {factor:.6g}" + (" (--fix does)" if certain else ""),
            Repair("scale", label, factor) if certain else None,
        )


def _certain(ratio: float, share: float, correlation: float) -> bool:
    """Do slope, share of the pairs and correlation leave no other explanation?"""
    return abs(ratio - 1) < CERTAIN_SLOPE and share > CERTAIN_SHARE and abs(correlation) > CERTAIN_CORRELATION


def _per_atom(check: PairCheck, ledger: Ledger, tolerance: float) -> str | None:
    """Are the energies divided by the number of atoms? None if not; else the hedge where a unit explains it as well."""
    reliable = check.reliable()
    if not check.telling() or len(reliable) < MIN_PAIRS:
        return None
    tags = np.array(check.tag)[reliable]
    rows = np.minimum(np.searchsorted(ledger["index"], tags), len(ledger) - 1)
    known = ledger["index"][rows] == tags
    work, change = check.sides(reliable)
    sizes = ledger["n_atoms"][rows[known]].astype(float)
    if not len(sizes) or np.median(sizes) < 3:
        return None
    ratio = (change / work)[known] * sizes
    middle = float(np.median(ratio))
    if abs(middle - 1) > tolerance or (np.abs(ratio / middle - 1) < 0.3).mean() < MOST_AGREE:
        return None
    slope = check.slope()[0]
    other = check.factor(FORCE_FACTORS)
    if other is None or not np.isfinite(other):
        return ""
    spread = np.abs((change / work)[known] / slope - 1)  # of many sizes, the unit would fit as well only by chance
    fits_better = np.median(np.abs(ratio / middle - 1)) < 0.5 * np.median(spread)
    return "" if fits_better else f", or {FORCE_FACTORS[other]}"


def judge_pairs(label: str, check: PairCheck, factors: dict[float, str]) -> Iterator[Finding]:
    """Say whether energies and a label belong together, and what mistake the slope tells of."""
    slope, correlation, pairs = check.slope()
    if pairs < MIN_PAIRS:
        return
    side = "-F.dx" if label == "forces" else "V stress:strain"
    numbers = f"dE against {side} over {pairs} similar pairs has slope {slope:.4g}, correlation {correlation:.2f}"
    factor = check.factor(factors)
    if factor is None:
        if check.telling():
            text = f"{numbers}: energies and {label} belong together"
            yield Finding("note", "units", text, (), pairs, round(min(0.99, abs(correlation)), 2), "slope near 1")
        elif abs(correlation) < 0.5 and pairs >= ENOUGH:
            text = f"{numbers}: energies and {label} do not belong together"
            why = "similar structures have energies that the labels cannot explain"
            action = f"check that {label}, energies and positions are of the same frames and the same calculation"
            yield Finding("warning", "units", text, (), pairs, 0.6, why, action)
        return
    known = np.isfinite(factor)
    share = check.agreement(factor if known else slope)
    sure = float(np.clip(max(abs(correlation), share) * (0.5 + 0.5 * share), 0, 0.99)) * (1.0 if known else 0.7)
    certain = (
        known
        and label in ("forces", "stress")
        and _certain(slope / factor, share, correlation)
        and "or" not in factors[factor].split()
        and "energies" not in factors[factor]
        and "positions" not in factors[factor]
    )
    mistake = factors[factor] if known else "the units do not fit together"
    yield Finding(
        "warning",
        "units",
        f"{numbers}: probably {mistake}",
        (),
        pairs,
        round(sure, 2),
        f"{share:.0%} of the pairs are within 30% of the slope" + ("" if known else "; no common factor is near it"),
        f"multiply the {label} by {factor:.6g}" + (" (--fix does)" if certain else "")
        if known
        else "find out the units of energies, positions and forces",
        Repair("scale", label, factor) if certain else None,
    )
