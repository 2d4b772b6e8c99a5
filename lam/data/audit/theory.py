"""Mixed levels of theory, and charge states: energies of like structures in two populations; metadata that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import Finding, few
from lam.data.audit.ledger import Ledger, grouped
from lam.data.audit.populations import EMPTY, two_populations

MIN_MEMBERS = 15  # of a composition
LARGE_FAMILY, EMPTY_OF_LARGE, LEAST_EVEN = 100, 0.6, 0.02
"""With so many members, a gap of this many widths of both populations is not by chance; each has 2% of them or more."""
MIN_OFFSET = 5e-3  # eV/atom: less is within the noise of settings
MIXED_SHARE = 0.5
"""Like structures must be in both populations: this share of what random labels would give."""
JUMP = (2.5, 18.0)
"""eV: total energies by which charge states of a molecule differ, from electron affinities to ionisation energies."""
UNIT_RATIOS = {
    27.2114: "Hartree and eV",
    13.6057: "Rydberg and eV",
    23.0605: "eV and kcal/mol",
    96.4853: "eV and kJ/mol",
}
_THEORY_KEYS = ("level_of_theory", "functional", "xc", "method", "theory", "basis", "basis_set", "program", "code")
_MOST_VALUES = 20


class Theory(Check):
    """Looks for a second zero of energy within the data set."""

    def __init__(self) -> None:
        self.values: dict[str, Counter[str]] = {}

    def see(self, view: View) -> None:
        """Note what frames say about their level of theory."""
        if view.atoms is None:
            return
        for key, value in view.atoms.info.items():
            if key.lower() in _THEORY_KEYS and isinstance(value, str):
                counter = self.values.setdefault(key, Counter())
                if value in counter or len(counter) < _MOST_VALUES:
                    counter[value] += 1

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Judge metadata, then energies of each composition."""
        for key, counter in self.values.items():
            if len(counter) > 1:
                listed = [f"'{value}' ({count})" for value, count in counter.most_common()]
                message = f"frames differ in '{key}': {few(listed)}"
                why, action = "the frames say so", "make one data set (one head) of each level of theory"
                yield Finding("warning", "theory", message, (), sum(counter.values()), 0.9, why, action)
        yield from self._judge_energies(ledger)

    def _judge_energies(self, ledger: Ledger) -> Iterator[Finding]:
        found = [split for rows in self._families(ledger) if (split := _split(ledger, rows)) is not None]
        charged = [split for split in found if split.looks_charged]
        for splits, kind in ((charged, "state"), ([s for s in found if not s.looks_charged], "theory")):
            if splits:
                yield _report(ledger, sorted(splits, key=lambda split: -len(split.rows)), kind)

    def _families(self, ledger: Ledger) -> Iterator[np.ndarray]:
        """Yield the labelled rows of each composition (and stated charge and spin) with enough of them."""
        energies = ledger["energy"]
        state = np.nan_to_num(ledger["charge"]) * 100 + np.nan_to_num(ledger["multiplicity"], nan=1.0)
        keys = np.unique(np.stack([ledger["composition"].astype(float), state], 1), axis=0, return_inverse=True)[1]
        for rows in grouped(keys.ravel()):
            rows = rows[np.isfinite(energies[rows])]
            if len(rows) >= MIN_MEMBERS:
                yield rows


class _Split:
    """A composition whose energies are two populations."""

    def __init__(self, ledger: Ledger, rows: np.ndarray, upper: np.ndarray, mixing: float, contrast: float) -> None:
        self.rows, self.mixing, self.contrast = rows, mixing, contrast
        self.minority = rows[upper] if upper.sum() <= len(rows) / 2 else rows[~upper]
        self.majority = np.setdiff1d(rows, self.minority)
        sizes = ledger["n_atoms"][rows[0]]
        energy = ledger["energy"]
        self.total = float(np.median(energy[self.minority]) - np.median(energy[self.majority]))
        self.per_atom = self.total / float(sizes)
        a, b = float(np.median(energy[self.minority])), float(np.median(energy[self.majority]))
        self.ratio = max(abs(a), abs(b)) / max(min(abs(a), abs(b)), 1e-9) if a * b > 0 else 0.0
        molecule = int(ledger["periodic"][rows[0]]) == 0
        stated = bool(np.isfinite(ledger["charge"][rows]).any())
        self.looks_charged = molecule and not stated and JUMP[0] < abs(self.total) < JUMP[1] and self.unit() == ""

    def unit(self) -> str:
        """Return two energy units in whose ratio the populations are, or nothing."""
        return next((name for factor, name in UNIT_RATIOS.items() if abs(self.ratio / factor - 1) < 0.02), "")


def _split(ledger: Ledger, rows: np.ndarray) -> _Split | None:
    """Return the two populations of a composition's energies, if like structures are in both."""
    energies = ledger["energy"][rows] / ledger["n_atoms"][rows]
    prints = ledger["fingerprint"][rows].astype(np.float64)
    found = None
    for values in (energies, _without_structure(energies, prints), _without_strain(energies, ledger, rows)):
        found = two_populations(values, empty=EMPTY if len(values) < LARGE_FAMILY else EMPTY_OF_LARGE)
        if (
            found is not None
            and found.offset > MIN_OFFSET
            and found.upper.mean() * (1 - found.upper.mean()) > LEAST_EVEN
        ):
            break
        found = None
    if found is None:
        return None
    mixing = _mixing(prints, found.upper)
    if mixing < MIXED_SHARE:
        return None  # another phase or isomer: the structures differ as the energies do
    return _Split(ledger, rows, found.upper, mixing, found.contrast)


def _without_structure(energies: np.ndarray, prints: np.ndarray) -> np.ndarray:
    """Return what a linear fit on the main components of the fingerprints leaves of the energies, (n,)."""
    centred = prints - prints.mean(axis=0)
    components, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    count = min(int((sizes > 1e-4 * max(sizes[0], 1e-12)).sum()), len(energies) // 8)
    design = components[:, :count]
    rest = energies - energies.mean()
    return rest - design @ (design.T @ rest)


def _without_strain(energies: np.ndarray, ledger: Ledger, rows: np.ndarray) -> np.ndarray:
    """Return what strain leaves of the energies per atom, (n,): forces squared and volume explain most of snapshots."""
    return energies - strain_energy(energies, ledger, rows)


def strain_energy(energies: np.ndarray, ledger: Ledger, rows: np.ndarray) -> np.ndarray:
    """Return a robust fit of energies per atom to squared forces and volume of structures of one composition, (n,)."""
    columns = [np.ones(len(rows))]
    for values in (ledger["rms_force"][rows].astype(float) ** 2, ledger["log_volume"][rows].astype(float)):
        if np.isfinite(values).all() and (spread := values.std()) > 1e-9:
            scaled = (values - values.mean()) / spread
            columns += [scaled, scaled**2]
    design = np.stack(columns, axis=1)
    weights = np.ones(len(rows))
    fitted = np.zeros(len(rows))
    for _ in range(20):
        fitted = design @ np.linalg.lstsq(design * weights[:, None], energies * weights, rcond=None)[0]
        off = np.abs(energies - fitted)
        weights = 1 / np.sqrt(np.maximum(off, max(float(np.median(off)), 1e-9)))
    return fitted


def _mixing(prints: np.ndarray, upper: np.ndarray) -> float:
    """Return how often nearest structures are of different populations, over what chance would make it."""
    partners = cKDTree(prints).query(prints, k=2)[1][:, 1]
    minority = upper if upper.mean() <= 0.5 else ~upper
    other = ~minority[partners[minority]]
    return float(other.mean() / max(1e-9, 1 - minority.mean()))


def _report(ledger: Ledger, splits: list[_Split], kind: str) -> Finding:
    minority = np.concatenate([split.minority for split in splits])
    largest = splits[0]
    formula = ledger.formula(int(ledger["composition"][largest.rows[0]]))
    text = (
        f"energies of the same composition fall into two populations: {formula} has {len(largest.minority)} of "
        f"{len(largest.rows)} structures {largest.per_atom:+.4g} eV/atom ({largest.total:+.4g} eV) off"
    )
    if len(splits) > 1:
        text += f", and so do {len(splits) - 1} other compositions"
    groups = {ledger.group_of(row) for row in minority.tolist()}
    majority = {ledger.group_of(row) for split in splits for row in split.majority.tolist()}
    if groups and not groups & majority:
        named = few([f"'{name}'" for name in sorted(groups)])
        text += f"; they are of the group(s) {named}"
    unit = largest.unit()
    if unit:
        what, action = f"the factor fits {unit}", "convert the energies to one unit"
        return _finding(ledger, "units", f"{text}: {what}", minority, 0.95, splits, action)
    if kind == "state":
        action = "state total_charge and spin_multiplicity, or find out what else differs"
        text += ": charge or spin states, or mixed levels of theory?"
        return _finding(ledger, kind, text, minority, 0.7, splits, action)
    action = "make data sets of their own of the levels of theory (functional, +U, spin-orbit, dispersion)"
    sure = float(np.clip(0.6 + 0.1 * np.log2(max(largest.contrast, 0.3) / 2.5) + 0.05 * (len(splits) - 1), 0.6, 0.95))
    return _finding(ledger, kind, f"{text}: mixed levels of theory?", minority, round(sure, 2), splits, action)


def _finding(
    ledger: Ledger, kind: str, text: str, rows: np.ndarray, sure: float, splits: list[_Split], action: str
) -> Finding:
    mixing = float(np.mean([split.mixing for split in splits]))
    why = (
        f"the gap is {splits[0].contrast:.1f} times wider than both populations, and like structures are in both "
        f"({mixing:.0%} of what chance would give)"
    )
    return Finding("warning", kind, text, ledger.names(rows), len(rows), sure, why, action)
