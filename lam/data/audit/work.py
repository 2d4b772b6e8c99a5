"""Energy against forces (dE = -F.dx) and stress (dE = V sigma:eps), along trajectories and between like structures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from lam.data.audit.check import Check, Context, View
from lam.data.audit.duplicates import search_keys
from lam.data.audit.finding import Finding, Repair
from lam.data.audit.ledger import Ledger, grouped
from lam.data.audit.steps import judge_steps, odd_groups, other_factors
from lam.data.consistency import (
    FORCE_FACTORS,
    MIN_PAIRS,
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

    def see(self, view: View) -> None:
        """Compare with the frame before."""
        self.consistency.update(view.structure, view.index)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Judge slopes, then single groups and frames."""
        check = self.consistency
        no_stress = not np.isfinite(ledger["pressure"]).any() or len(check.stress.reliable()) >= ENOUGH
        if len(check.forces.reliable()) < ENOUGH or not no_stress:
            self._compare_similar(ledger, context)
        yield from judge_pairs("forces", check.forces, FORCE_FACTORS)
        slope, _, _ = check.forces.slope()
        right = check.forces.telling()
        for stress in (check.stress, check.virial):
            stress.share = slope if right else 1.0
        yield from self._judge_stress()
        if right and 0.6 < slope < 1.6:
            yield from odd_groups(check.forces, ledger)
            yield from other_factors(check.forces, ledger)
        yield from judge_steps(check, ledger)

    def _judge_stress(self) -> Iterator[Finding]:
        stress, virial = self.consistency.stress, self.consistency.virial
        slope, correlation, pairs = virial.slope()
        looks = [f for f in VIRIAL_FACTORS if abs(slope / f - 1) < 0.1 and abs(correlation) > CERTAIN_CORRELATION]
        own = stress.slope()[0]
        # At one volume both are as good; a stress with slope 1 is right, and no volume is 1 cubic Angstrom.
        if looks and not 0.6 < abs(own) < 1.6 and virial.agreement(looks[0]) > stress.agreement(own) - 0.02:
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
        yield from judge_pairs("stress", stress, STRESS_FACTORS)

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
        and abs(slope / factor - 1) < CERTAIN_SLOPE
        and share > CERTAIN_SHARE
        and abs(correlation) > CERTAIN_CORRELATION
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
