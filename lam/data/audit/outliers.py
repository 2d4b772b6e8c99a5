"""Energies that are far from what the composition suggests, and very large forces."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import Finding, few
from lam.data.audit.ledger import Ledger, grouped
from lam.data.references import fit_reference_energies

LARGE_FORCE = 50.0  # eV/Angstrom
OUTLIER_SIGMA, OUTLIER_FLOOR = 12.0, 1.0  # robust standard deviations; eV/atom
GROSS = 5.0
"""eV/atom: more is no unusual structure but a wrong number."""
MIN_ENERGIES = 20
FIT_ROWS = 20_000
USUAL_OF = 10
SQUEEZED, TORN = 0.85, 1.2
"""Shortest distance over the usual one (of the composition, if it has :data:`USUAL_OF` structures): beyond, a high
energy has its reason in the positions."""
MIN_LIKE = 30
"""Structures of one composition whose energies are judged by their own spread."""


class Outliers(Check):
    """Composition fit, forces."""

    columns = {"largest_force": ("f4", ()), "residual": ("f8", ())}

    def see(self, view: View) -> None:
        """Note the largest force."""
        if view.structure.forces is not None:
            view.put(largest_force=np.abs(view.structure.forces).max())

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Judge forces and energies."""
        yield from _judge_forces(ledger)
        residual = energy_residuals(ledger)
        ledger["residual"][:] = residual
        rows = np.flatnonzero(np.isfinite(residual))
        if len(rows) < MIN_ENERGIES:
            return
        spread = 1.4826 * float(np.median(np.abs(residual[rows])))
        limit = max(OUTLIER_SIGMA * spread, OUTLIER_FLOOR)
        far = rows[np.abs(residual[rows]) > limit]
        near = _odd_within_composition(ledger, np.setdiff1d(rows, far))
        if len(far):
            yield _finding(ledger, far, residual, f"more than {limit:.2g} eV/atom, {OUTLIER_SIGMA:g} robust deviations")
        if len(near):
            yield _finding(ledger, near[0], near[1], "far outside of the spread of their own composition", "the others")


def energy_residuals(ledger: Ledger) -> np.ndarray:
    """Return what a composition fit leaves of the energies, (rows,) eV/atom, its median taken away; NaN without."""
    energies = ledger["energy"]
    residual = np.full(len(ledger), np.nan)
    rows = np.flatnonzero(np.isfinite(energies))
    if not len(rows):
        return residual
    table = ledger.element_counts()
    chosen = rows[:: max(1, -(-len(rows) // FIT_ROWS))]
    per_atom = energies / ledger["n_atoms"]
    for _ in range(2):  # the second time without what would bend the fit
        fit = fit_reference_energies(table[ledger["composition"][chosen]], energies[chosen])
        expected = table @ fit.energies / np.maximum(table.sum(axis=1), 1)
        residual[rows] = per_atom[rows] - expected[ledger["composition"][rows]]
        far = np.abs(residual[chosen] - np.median(residual[chosen]))
        kept = far <= max(6 * 1.4826 * float(np.median(far)), 0.05)
        if kept.all() or len(set(ledger["composition"][chosen[kept]].tolist())) < 1:
            break
        # Every element must stay, or its reference would be lost.
        elements = table[ledger["composition"][chosen]] > 0
        if (elements.any(axis=0) & ~elements[kept].any(axis=0)).any():
            break
        chosen = chosen[kept]
    residual[rows] -= np.median(residual[rows])
    return residual


def _odd_within_composition(ledger: Ledger, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | tuple[()]:
    """Return rows whose energies are far from others of their composition, and by how much (eV/atom), or nothing."""
    per_atom = ledger["energy"] / ledger["n_atoms"]
    deviation = np.full(len(ledger), np.nan)
    for members in grouped(ledger["composition"][rows]):
        members = rows[members]
        if len(members) < MIN_LIKE:
            continue
        values = per_atom[members]
        centre = float(np.median(values))
        low, high = np.quantile(values, (0.02, 0.98))
        reach = max(20 * 1.4826 * float(np.median(np.abs(values - centre))), 5 * (high - low), 2e-3)
        odd = np.abs(values - centre) > reach
        deviation[members[odd]] = (values - centre)[odd]
    found = np.flatnonzero(np.isfinite(deviation))
    return (found, deviation) if len(found) else ()


def _finding(ledger: Ledger, rows: np.ndarray, residual: np.ndarray, why: str, what: str = "") -> Finding:
    rows = rows[np.argsort(-np.abs(residual[rows]))]
    examples = [f"{ledger.name(row)} ({residual[row]:+.2g} eV/atom)" for row in rows[:3].tolist()]
    gross_rows = rows[(np.abs(residual[rows]) > GROSS) & ~_deformed(ledger, rows, residual)]
    gross = len(gross_rows) > 0
    subject = f"what {what} of their composition have" if what else "what their composition suggests"
    return Finding(
        "warning" if gross and not what else "note",
        "outliers",
        f"{len(rows)} energies are far from {subject}: {few(examples, len(rows))}",
        ledger.names(rows),
        len(rows),
        0.8 if gross else 0.5,
        why,
        "look at these structures; leave them out if their energies are wrong, or if they do not matter to you",
    )


def _deformed(ledger: Ledger, rows: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Are the energies of rows high because their atoms are pressed together or torn apart? (n,) bool."""
    ratio = ledger["bond_ratio"].astype(float)
    known = np.flatnonzero(np.isfinite(ratio))
    overall = float(np.median(ratio[known])) if len(known) else 1.0
    usual = {
        int(ledger["composition"][known[members[0]]]): float(np.median(ratio[known[members]]))
        for members in grouped(ledger["composition"][known])
        if len(members) >= USUAL_OF
    }
    expected = np.array([usual.get(int(number), overall) for number in ledger["composition"][rows]])
    relative = np.nan_to_num(ratio[rows], nan=9.0) / expected
    return (residual[rows] > 0) & ((relative < SQUEEZED) | (relative > TORN))


def _judge_forces(ledger: Ledger) -> Iterator[Finding]:
    forces = ledger["largest_force"].astype(float)
    large = np.flatnonzero(forces > LARGE_FORCE)
    if not len(large):
        return
    large = large[np.argsort(-forces[large])]
    examples = [f"{ledger.name(row)} ({forces[row]:.0f})" for row in large[:3].tolist()]
    yield Finding(
        "note",
        "outliers",
        f"{len(large)} have forces above {LARGE_FORCE:g} eV/A: {few(examples, len(large))}",
        ledger.names(large),
        len(large),
        0.6,
        "so large forces occur in collisions and in failed calculations",
        "leave them out unless they are meant: they dominate a squared loss",
    )
