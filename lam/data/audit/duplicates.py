"""Repeated structures: exactly, or moved, turned, renumbered, in another cell, or displaced a little."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import EXAMPLES, Finding, Repair, few
from lam.data.audit.fingerprint import SIZE, fingerprint, mismatch, sensitivity
from lam.data.audit.ledger import Ledger, grouped
from lam.data.structure import Structure

SAME = 1e-3
"""Angstrom: surroundings that differ less are the same up to rounding."""
NEAR = 0.02
"""Angstrom: up to it they may be near-duplicates, ..."""
NEAR_SHARE = 0.25
"""... if they are also below this share of what two structures of the composition, taken at random, differ by."""
TYPICAL_OF = 8
SETTINGS = 5e-3
"""eV/atom: what k-points and cut-offs of one level of theory may make of a difference."""
UNKNOWN_STRESS, BOND = 0.1, 2.0  # eV/Angstrom^3; Angstrom
SAME_ENERGY = 1e-3  # eV; what exact duplicates may differ by
REACH = 2.0  # times the sensitivity to displacements: how far candidates are searched
NEIGHBOURS = 3
MOST_CONFIRMED, CONFIRM_ATOMS = 500, 100_000
"""Pairs, and atoms in them, that are compared one by one at most: the nearest by fingerprint first."""
PATIENCE = 60
"""Comparisons without success after which those farther apart are given up."""


@dataclass(frozen=True)
class Pair:
    """Two structures, by their rows, that are the same but for ``distance`` (Angstrom)."""

    first: int
    second: int
    distance: float


class Duplicates(Check):
    """Finds them by hash and by fingerprint, and confirms the latter atom by atom."""

    columns = {"digest": ("u8", ()), "fingerprint": ("f4", (SIZE,))}

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        """Near-duplicates, for other checks."""
        self.exact: list[tuple[int, int]] = []

    def see(self, view: View) -> None:
        """Take hash and fingerprint."""
        if view.row is None:
            return
        pairs, _, distances = view.neighbours
        view.put(digest=_digest(view.structure), fingerprint=fingerprint(view.structure, pairs, distances, view.radius))
        composition = int(view.ledger["composition"][view.row])
        reaches = view.ledger.reaches
        if composition not in reaches:
            reaches[composition] = None
        elif reaches[composition] is None:  # only a composition that occurs again has a use for it
            reaches[composition] = REACH * sensitivity(view.structure)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Report exact duplicates, contradictions among them, and near-duplicates."""
        yield from self._judge_exact(ledger)
        self.pairs, checked, found = near_pairs(ledger, context, skip={second for _, second in self.exact})
        if self.pairs:
            yield from self._judge_near(ledger, checked, found)

    def _judge_exact(self, ledger: Ledger) -> Iterator[Finding]:
        repeats, conflicts, safe = [], [], []
        for rows in grouped(ledger["digest"]):
            for row in rows[1:]:
                first, other = ledger["energy"][rows[0]], ledger["energy"][row]
                repeats.append((int(rows[0]), int(row)))
                if abs(first - other) > SAME_ENERGY:
                    conflicts.append((int(rows[0]), int(row)))
                elif first == other or (np.isnan(first) and np.isnan(other)):
                    safe.append(int(ledger["index"][row]))
        self.exact = sorted(repeats, key=lambda pair: pair[1])
        if repeats:
            texts = [f"{ledger.name(b)} = {ledger.name(a)}" for a, b in self.exact]
            names = ledger.names([b for _, b in self.exact])
            yield Finding(
                "warning",
                "duplicates",
                f"{len(repeats)} structures repeat: {few(texts)}",
                names,
                len(repeats),
                1.0,
                "atoms, cell, charge and spin agree to 1e-4 Angstrom",
                "leave the repeats out" + (": --fix does, where the labels agree" if safe else ""),
                Repair("drop", rows=tuple(sorted(safe))) if safe else None,
            )
        if conflicts:
            conflicts.sort(key=lambda pair: pair[1])
            texts = [
                f"{ledger.name(b)} = {ledger.name(a)} ({ledger['energy'][a]:.4f} and {ledger['energy'][b]:.4f} eV)"
                for a, b in conflicts
            ]
            yield Finding(
                "warning",
                "contradictions",
                f"{len(conflicts)} repeated structures have different energies: {few(texts)}",
                ledger.names([b for _, b in conflicts]),
                len(conflicts),
                0.95,
                "one structure has one energy, unless charge, spin or level of theory differ",
                "find out which is right; state charge and spin, or separate the levels of theory",
            )

    def _judge_near(self, ledger: Ledger, checked: int, found: int) -> Iterator[Finding]:
        energies, sizes = ledger["energy"], ledger["n_atoms"]
        same = [p for p in self.pairs if p.distance <= SAME]
        near = [p for p in self.pairs if p.distance > SAME]
        note = f" ({checked} of {found} candidates were compared)" if checked < found else ""
        for pairs, kind, limit in ((same, "the same structure", SAME), (near, "nearly the same structure", NEAR)):
            if not pairs:
                continue
            conflicts = [p for p in pairs if _conflict(ledger, p)]
            count = len({p.second for p in pairs})
            texts = [f"{ledger.name(p.second)} ~ {ledger.name(p.first)} ({p.distance:.3f} A)" for p in pairs]
            yield Finding(
                "warning" if limit == SAME else "note",
                "near-duplicates",
                f"{count} structures are {kind} as another, up to translation, rotation, order of atoms or cell{note}: "
                f"{few(texts, count)}",
                ledger.names([p.second for p in pairs]),
                count,
                0.95 if limit == SAME else 0.8,
                f"the surroundings of every atom agree to {limit:g} Angstrom (root mean square)",
                "keep them in one split; leave repeats out or weigh them down",
            )
            if conflicts:
                text = "; ".join(
                    f"{ledger.name(p.second)} and {ledger.name(p.first)} "
                    f"({_per_atom(energies, sizes, p.second) - _per_atom(energies, sizes, p.first):+.3f} eV/atom)"
                    for p in conflicts[:EXAMPLES]
                )
                yield Finding(
                    "warning",
                    "contradictions",
                    f"{len(conflicts)} pairs of {kind} have energies that do not agree: {text}",
                    ledger.names([p.second for p in conflicts]),
                    len(conflicts),
                    0.85,
                    "so small a difference of the positions cannot change the energy so much",
                    "look for mixed levels of theory, charge or spin states, or calculations that did not converge",
                )


def near_pairs(ledger: Ledger, context: Context, skip: set[int]) -> tuple[list[Pair], int, int]:
    """Return confirmed near-duplicates, how many candidates were compared, and how many there were."""
    candidates = sorted(_candidates(ledger, context, skip), key=lambda item: item[2])
    confirmed = []
    compared = atoms = in_vain = 0
    cache: dict[int, Structure | None] = {}
    limits = Limits(ledger, context)
    for a, b, _ in candidates:
        atoms += int(ledger["n_atoms"][a]) + int(ledger["n_atoms"][b])
        if compared == MOST_CONFIRMED or atoms > CONFIRM_ATOMS or in_vain == PATIENCE:
            break
        compared += 1
        in_vain += 1
        pair = [cache[row] if row in cache else context.fetch(int(ledger["index"][row])) for row in (a, b)]
        cache = dict(zip((a, b), pair, strict=True))
        if pair[0] is None or pair[1] is None:
            continue
        difference = mismatch(pair[0], pair[1])
        if difference <= SAME or difference <= limits.near(b):
            confirmed.append(Pair(a, b, difference))
            in_vain = 0
    confirmed.sort(key=lambda p: (p.distance > SAME, p.second))
    return confirmed, compared, compared if in_vain == PATIENCE else len(candidates)


class Limits:
    """How little two structures of a composition must differ to be near-duplicates, Angstrom."""

    def __init__(self, ledger: Ledger, context: Context) -> None:
        self.ledger, self.context = ledger, context
        self._known: dict[int, float] = {}

    def near(self, row: int) -> float:
        """Return the limit for the composition of a row: NEAR, or less where all its structures are much alike."""
        composition = int(self.ledger["composition"][row])
        if composition not in self._known:
            self._known[composition] = min(NEAR, NEAR_SHARE * self._typical(composition))
        return self._known[composition]

    def _typical(self, composition: int) -> float:
        rows = np.flatnonzero(self.ledger["composition"] == composition)
        if len(rows) < TYPICAL_OF:
            return float("inf")
        chosen = np.random.default_rng(0).choice(rows, TYPICAL_OF, replace=False)
        found = [self.context.fetch(int(self.ledger["index"][row])) for row in chosen]
        known = [structure for structure in found if structure is not None]
        apart = [mismatch(a, b) for a, b in pairwise(known)]
        return float(np.median(apart)) if apart else float("inf")


def search_keys(ledger: Ledger) -> np.ndarray:
    """Return a number for each row: rows can be the same structure only if theirs are equal.

    Periodic structures compare by reduced formula (supercells are the same structure), molecules by formula; charge and
    spin count as stated, 0 and 1 if not.
    """
    composition, periodic = ledger["composition"].astype(np.int64), ledger["periodic"].astype(np.int64)
    formula = np.where(periodic == 3, ledger.reduced()[composition], composition) if len(ledger) else composition
    charge = np.nan_to_num(ledger["charge"], nan=0.0).round().astype(np.int64)
    spin = np.nan_to_num(ledger["multiplicity"], nan=1.0).round().astype(np.int64)
    keys = np.stack([formula, periodic, charge, spin], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel()


def reach_of(ledger: Ledger, rows: np.ndarray, context: Context) -> float:
    """Return how far apart the fingerprints of near-duplicates among these rows may be."""
    numbers = set(ledger["composition"][rows].tolist())
    known = [reach for number in numbers if (reach := ledger.reaches.get(number)) is not None]
    if known:
        return max(known)
    structure = context.fetch(int(ledger["index"][rows[0]]))
    return REACH * sensitivity(structure) if structure is not None else 0.0


def _candidates(ledger: Ledger, context: Context, skip: set[int]) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier row, later row, distance over the reach) of fingerprints that are close."""
    prints = ledger["fingerprint"]
    for rows in grouped(search_keys(ledger)):
        rows = np.array([row for row in rows if row not in skip]) if skip else rows
        if len(rows) < 2:
            continue
        count = min(NEIGHBOURS + 1, len(rows))
        reach = reach_of(ledger, rows, context)
        distances, partners = cKDTree(prints[rows]).query(prints[rows], k=count, distance_upper_bound=reach)
        found: set[tuple[int, int]] = set()
        for here, (apart, there) in enumerate(zip(distances, partners, strict=True)):
            for distance, other in zip(apart, there, strict=True):
                if np.isfinite(distance) and other != here:
                    pair = (int(rows[min(here, other)]), int(rows[max(here, other)]))
                    if pair not in found:
                        found.add(pair)
                        yield (*pair, float(distance) / reach)


def _per_atom(energies: np.ndarray, sizes: np.ndarray, row: int) -> float:
    return float(energies[row] / sizes[row])


def _conflict(ledger: Ledger, pair: Pair) -> bool:
    """Do the energies of near-duplicates differ by more than such a displacement can change them?

    Per atom it is the mean force times the displacement, half of a stiff bond's 50 eV/A^2 times its square, and work
    of the stress over a strain of the displacement over a bond; all taken generously.
    """
    rows = [pair.first, pair.second]
    per_atom = ledger["energy"][rows] / ledger["n_atoms"][rows]
    force = float(np.nan_to_num(ledger["mean_force"][rows], nan=1.0).max())
    volume = np.exp(np.nan_to_num(ledger["log_volume"][rows], nan=-99.0).astype(float))
    pressure = np.abs(np.nan_to_num(ledger["pressure"][rows], nan=UNKNOWN_STRESS).astype(float))
    work = 3 * float((pressure * volume).max()) * pair.distance / BOND
    limit = SETTINGS + 6 * force * pair.distance + 50 * pair.distance**2 + work
    return bool(abs(per_atom[0] - per_atom[1]) > limit)


def _digest(structure: Structure) -> int:
    digest = hashlib.blake2b(digest_size=8)
    arrays = (structure.numbers, np.round(structure.positions, 4) + 0.0, np.round(structure.cell, 4) + 0.0)
    for array in (*arrays, structure.pbc):
        digest.update(array.tobytes())
    digest.update(repr((structure.total_charge, structure.spin_multiplicity)).encode())
    return int.from_bytes(digest.digest(), "little")
