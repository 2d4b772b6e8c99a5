"""Energies that are far from what the composition suggests, and very large forces."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import Finding, few
from lam.data.audit.ledger import Ledger, grouped
from lam.data.audit.theory import strain_energy
from lam.data.references import fit_reference_energies

LARGE_FORCE = 50.0  # eV/Angstrom
OUTLIER_SIGMA, OUTLIER_FLOOR = 12.0, 1.0  # robust standard deviations; eV/atom
GROSS = 5.0
"""eV/atom: more is no unusual structure but a wrong number."""
MIN_ENERGIES = 20
SIZES, PER_ATOM = 1.5, 0.2
"""Ratio of large to small structures from which on sizes tell, and of the misses of means and sums over atoms."""
FIT_ROWS = 20_000
USUAL_OF = 10
SQUEEZED, TORN = 0.85, 1.2
"""Shortest distance over the usual one (of the composition, if it has :data:`USUAL_OF` structures): beyond, a high
energy has its reason in the positions."""
MIN_LIKE = 15
"""Structures of one composition whose energies are judged by their own spread, ..."""
ODD_SIGMA, ODD_RANGE, LEAST_ODD = 20.0, 6.0, 0.01
"""... and odd if off by so many robust deviations, times the reach of nine of ten, and eV/atom."""
CLEARLY_ODD, CLEAR_SIGMA = 0.3, 40.0
"""eV/atom, and robust deviations: more is a warning, unless forces or distances explain it."""
STILL = 1e-3  # eV/Angstrom: forces that vanish by symmetry tell nothing of the strain


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
        yield from _judge_sizes(ledger)
        residual = energy_residuals(ledger)
        ledger["residual"][:] = residual
        rows = np.flatnonzero(np.isfinite(residual))
        if len(rows) < MIN_ENERGIES:
            return
        spread = 1.4826 * float(np.median(np.abs(residual[rows])))
        limit = max(OUTLIER_SIGMA * spread, OUTLIER_FLOOR)
        far = rows[np.abs(residual[rows]) > limit]
        near = _odd_within_composition(ledger, rows)
        far = np.setdiff1d(far, near[0]) if near else far
        if len(far):
            yield _finding(ledger, far, residual, f"more than {limit:.2g} eV/atom, {OUTLIER_SIGMA:g} robust deviations")
        if len(near):
            why = "far outside of the spread of their own composition"
            yield _finding(ledger, near[0], near[1], why, "the others", near[2])


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


def _odd_within_composition(ledger: Ledger, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | tuple[()]:
    """Return rows with energies far from those of others of their composition and strain, how far, and if clearly."""
    per_atom = ledger["energy"] / ledger["n_atoms"]
    deviation, clear = np.full(len(ledger), np.nan), np.zeros(len(ledger), dtype=bool)
    for members in grouped(ledger["composition"][rows]):
        members = rows[members]
        if len(members) < MIN_LIKE:
            continue
        rest = per_atom[members] - strain_energy(per_atom[members], ledger, members)
        rest -= np.median(rest)
        far = np.abs(rest)
        # Nine of ten are taken as right: of the others, how far they are must not count.
        reach = max(ODD_SIGMA * 1.4826 * float(np.median(far)), ODD_RANGE * float(np.quantile(far, 0.9)), LEAST_ODD)
        odd = far > reach
        deviation[members[odd]] = rest[odd]
        clear[members[odd]] = far[odd] > max(CLEAR_SIGMA * 1.4826 * float(np.median(far)), CLEARLY_ODD)
    found = np.flatnonzero(np.isfinite(deviation))
    return (found, deviation, clear[found]) if len(found) else ()


def _finding(
    ledger: Ledger,
    rows: np.ndarray,
    residual: np.ndarray,
    why: str,
    what: str = "",
    clearly: np.ndarray | None = None,
) -> Finding:
    order = np.argsort(-np.abs(residual[rows]))
    rows, clearly = rows[order], None if clearly is None else clearly[order]
    examples = [f"{ledger.name(row)} ({residual[row]:+.2g} eV/atom)" for row in rows[:3].tolist()]
    gross_rows = rows[(np.abs(residual[rows]) > GROSS) & ~_deformed(ledger, rows, residual)]
    gross = len(gross_rows) > 0
    clear = False
    if clearly is not None:
        clear = bool((clearly & ~_deformed(ledger, rows, residual) & _usual_forces(ledger, rows)).any())
    subject = f"what {what} of their composition have" if what else "what their composition suggests"
    return Finding(
        "warning" if (gross and not what) or clear else "note",
        "outliers",
        f"{len(rows)} energies are far from {subject}: {few(examples, len(rows))}",
        ledger.names(rows),
        len(rows),
        0.8 if gross or clear else 0.5,
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


def _judge_sizes(ledger: Ledger) -> Iterator[Finding]:
    """Total energies grow with the number of atoms; energies per atom do not."""
    rows = np.flatnonzero(np.isfinite(ledger["energy"]))[:FIT_ROWS]
    sizes, energies = ledger["n_atoms"][rows].astype(float), ledger["energy"][rows].astype(float)
    if len(rows) < MIN_ENERGIES or np.quantile(sizes, 0.9) < SIZES * np.quantile(sizes, 0.1):
        return
    counts = ledger.element_counts()[ledger["composition"][rows]].astype(float)
    misses = []
    for table in (counts, counts / sizes[:, None]):
        per_unit = energies / table.sum(axis=1)
        fit = fit_reference_energies(table, energies)
        rest = np.abs(per_unit - table @ fit.energies / table.sum(axis=1))
        misses.append(float(np.median(rest)) / max(float(np.median(np.abs(per_unit))), 1e-12))
    if misses[1] < PER_ATOM * misses[0]:
        yield Finding(
            "warning",
            "units",
            "the energies do not grow with the number of atoms: they look like energies per atom",
            (),
            len(rows),
            0.85,
            f"sums over atoms miss them by {misses[0]:.1%}, means over atoms by {misses[1]:.1%} (medians, {len(rows)} "
            "structures of several sizes)",
            "store total energies: multiply each by its number of atoms",
        )


def _usual_forces(ledger: Ledger, rows: np.ndarray) -> np.ndarray:
    """Have rows forces as most others of their composition have, so that no strain explains their energies?"""
    forces = ledger["rms_force"].astype(float)
    result = np.zeros(len(rows), dtype=bool)
    for place, row in enumerate(rows.tolist()):
        others = forces[ledger["composition"] == ledger["composition"][row]]
        low, high = np.nanquantile(others, (0.1, 0.9)) if np.isfinite(others).any() else (np.nan, np.nan)
        result[place] = low <= forces[row] <= high and forces[row] > STILL
    return result


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
