"""Look for what goes wrong silently in labelled data. Used by `lam data check`."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from lam.data.consistency import FORCE_FACTORS, MIN_CORRELATION, MIN_PAIRS, STRESS_FACTORS, Consistency, PairCheck
from lam.data.describe import DataInput
from lam.data.dialects import CHARGE_KEYS, MULTIPLICITY_KEYS
from lam.data.labels import ENERGY_KEYS, FORCE_KEYS, STRESS_KEYS, VIRIAL_KEYS
from lam.data.neighbors import find_pairs
from lam.data.readers import read_atoms
from lam.data.references import composition_matrix, fit_reference_energies
from lam.data.shards import Shard
from lam.data.splits import assign_splits
from lam.data.structure import Structure
from lam.errors import LamError

BONDS_FROM, BONDS_TO = 0.6, 1.5  # median of nearest distance over the sum of covalent radii
OVERLAP_RATIO = 0.4
LARGE_FORCE = 50.0  # eV/Angstrom
LARGE_STRESS = 3.0  # eV/Angstrom^3, 480 GPa
OUTLIER_SIGMA, OUTLIER_FLOOR = 12.0, 1.0  # robust standard deviations; eV/atom
NET_FORCE = 0.05  # eV/Angstrom per atom
SEARCH_RADIUS = 4.0
EXAMPLES = 3
_KNOWN_KEYS = {*ENERGY_KEYS, *FORCE_KEYS, *STRESS_KEYS, *VIRIAL_KEYS, *CHARGE_KEYS, *MULTIPLICITY_KEYS}
_LABEL_WORDS = ("energy", "forces", "force", "stress", "virial", "virials")


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know."""

    level: Literal["error", "warning", "note"]
    kind: str
    message: str


def audit(data: DataInput) -> list[Finding]:
    """Return all findings about one data set; broken frames are findings too, not exceptions."""
    auditor = Auditor()
    if data.is_shard:
        shard = Shard(data.path)
        frames: Iterator[int] = iter(range(len(shard)))
        for row in frames:
            auditor.try_update(lambda row=row: shard[row])
    else:
        try:
            for number, atoms in read_atoms(data.path):
                auditor.see_keys(atoms)
                name = f"{data.path.name}#{number}"
                auditor.try_update(lambda atoms=atoms, name=name: Structure.from_atoms(atoms, source=name))
        except LamError as error:  # what follows cannot be read; judge what came before
            auditor.broken.append(str(error))
    return auditor.findings()


class Auditor:
    """Takes structures one by one and judges them together."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.consistency = Consistency()
        self.unused: Counter[str] = Counter()
        self.seen: dict[bytes, tuple[str, float | None]] = {}
        self.duplicates: list[str] = []
        self.contradictions: list[str] = []
        self.names: list[str] = []
        self.groups: list[str] = []
        self.numbers: list[np.ndarray] = []
        self.energies: list[float] = []
        self.counts: Counter[str] = Counter()
        self.ratios: list[float] = []
        self.overlaps: list[str] = []
        self.largest_forces: list[float] = []
        self.net_forces: list[float] = []
        self.pressures: list[float] = []

    def see_keys(self, atoms: Atoms) -> None:
        """Note the names of values that look like labels but are not read as such."""
        for key in (*atoms.info, *atoms.arrays):
            word = key.lower().removeprefix("ref_").removeprefix("dft_")
            if key not in _KNOWN_KEYS and difflib.get_close_matches(word, _LABEL_WORDS, 1, 0.8):
                self.unused[key] += 1

    def try_update(self, read: object) -> None:
        """Read and take a structure; if it cannot be used, remember why."""
        try:
            structure = read()  # type: ignore[operator]
        except LamError as error:
            self.broken.append(str(error).rstrip("."))
            return
        self.update(structure)

    def update(self, structure: Structure) -> None:
        """Take a structure."""
        self.names.append(structure.where)
        self.groups.append(structure.group)
        self.numbers.append(structure.numbers)
        self.energies.append(np.nan if structure.energy is None else structure.energy)
        for key in ("energy", "forces", "stress"):
            self.counts[key] += getattr(structure, key) is not None
        stated = structure.total_charge is not None and structure.spin_multiplicity is not None
        self.counts["molecules without state"] += not stated and not structure.pbc.any()
        self.counts["radical singlets"] += _is_radical_singlet(structure)
        self._look_for_duplicates(structure)
        self._look_at_distances(structure)
        if structure.forces is not None:
            self.largest_forces.append(float(np.abs(structure.forces).max()))
            self.net_forces.append(float(np.abs(structure.forces.mean(axis=0)).max()))
        if structure.stress is not None:
            self.pressures.append(abs(float(np.trace(structure.stress))) / 3)
        self.consistency.update(structure)

    def findings(self) -> list[Finding]:
        """Judge what was seen."""
        return list(self._judge())

    def _judge(self) -> Iterator[Finding]:
        if self.broken:
            yield Finding("error", "unusable", f"{len(self.broken)} frame(s) cannot be used: {_few(self.broken)}")
        if not self.names:
            return
        yield from self._coverage()
        yield from self._units()
        if self.duplicates:
            yield Finding("warning", "duplicates", f"{len(self.duplicates)} structures repeat: {_few(self.duplicates)}")
        if self.contradictions:
            text = f"{len(self.contradictions)} repeated structures have different energies"
            yield Finding("warning", "contradictions", f"{text}: {_few(self.contradictions)}")
        if self.overlaps:
            yield Finding("warning", "overlap", f"atoms overlap in {len(self.overlaps)}: {_few(self.overlaps)}")
        yield from self._outliers()
        split = assign_splits(self.groups, compositions=composition_matrix(self.numbers))
        if split.mode == "block":
            groups = len(set(self.groups))
            yield Finding(
                "note", "groups", f"{groups} group(s) cannot be split as wholes: blocks of frames would be held out"
            )

    def _coverage(self) -> Iterator[Finding]:
        total = len(self.names)
        for key in ("energy", "forces", "stress"):
            count = self.counts[key]
            if count == 0 and key != "stress":
                yield Finding("warning", "coverage", f"no structure has a label for {key}")
            elif count < total:
                yield Finding("note", "coverage", f"{count} of {total} structures have a label for {key}")
        for key, times in self.unused.items():
            yield Finding("warning", "keys", f"'{key}' ({times} frames) looks like a label but is not read as one")
        if missing := self.counts["molecules without state"]:
            text = "molecules do not state both total charge and spin multiplicity: 0 and 1 are assumed"
            yield Finding("note", "state", f"{missing} {text}")
        if radicals := self.counts["radical singlets"]:
            text = "molecules have an odd number of electrons but count as singlets: state spin_multiplicity or charge"
            yield Finding("warning", "state", f"{radicals} {text}")

    def _units(self) -> Iterator[Finding]:
        if self.ratios:
            ratio = float(np.median(self.ratios))
            if not BONDS_FROM < ratio < BONDS_TO:
                guess = "in Bohr" if ratio > 1 else "in nm, or scaled"
                text = f"nearest atoms are typically {ratio:.2f} times a bond apart: are the positions {guess}?"
                yield Finding("warning", "units", text)
        if self.pressures and np.median(self.pressures) > LARGE_STRESS:
            text = f"the median pressure is {160.2 * np.median(self.pressures):.0f} GPa"
            yield Finding("warning", "units", f"{text}: is the stress in eV/Angstrom^3?")
        yield from _judge_pairs("forces", self.consistency.forces, FORCE_FACTORS)
        yield from _judge_pairs("stress", self.consistency.stress, STRESS_FACTORS)
        if self.net_forces and np.median(self.net_forces) > NET_FORCE:
            text = f"forces do not sum to zero (median {np.median(self.net_forces):.2g} eV/Angstrom per atom)"
            yield Finding("warning", "units", f"{text}: are some atoms missing or constrained?")

    def _outliers(self) -> Iterator[Finding]:
        large = [(f, n) for f, n in zip(self.largest_forces, self.names, strict=False) if f > LARGE_FORCE]
        if large and len(self.largest_forces) == len(self.names):
            examples = [f"{name} ({force:.0f})" for force, name in sorted(large, reverse=True)]
            yield Finding("note", "outliers", f"{len(large)} have forces above {LARGE_FORCE:g} eV/A: {_few(examples)}")
        energies = np.array(self.energies)
        rows = np.flatnonzero(np.isfinite(energies))
        if len(rows) < MIN_PAIRS:
            return
        compositions = composition_matrix([self.numbers[row] for row in rows])
        fit = fit_reference_energies(compositions, energies[rows])
        residual = (energies[rows] - compositions @ fit.energies) / compositions.sum(axis=1)
        residual -= np.median(residual)
        limit = max(OUTLIER_SIGMA * 1.4826 * float(np.median(np.abs(residual))), OUTLIER_FLOOR)
        worst = [k for k in np.argsort(-np.abs(residual)) if abs(residual[k]) > limit]
        if worst:
            examples = [f"{self.names[rows[k]]} ({residual[k]:+.1f} eV/atom)" for k in worst]
            text = f"{len(worst)} energies are far from what their composition suggests"
            yield Finding("note", "outliers", f"{text}: {_few(examples)}")

    def _look_for_duplicates(self, structure: Structure) -> None:
        digest = hashlib.blake2b(digest_size=16)
        arrays = (structure.numbers, np.round(structure.positions, 4) + 0.0, np.round(structure.cell, 4) + 0.0)
        for array in (*arrays, structure.pbc):
            digest.update(array.tobytes())
        digest.update(repr((structure.total_charge, structure.spin_multiplicity)).encode())
        key = digest.digest()
        if key not in self.seen:
            self.seen[key] = (structure.where, structure.energy)
            return
        first, energy = self.seen[key]
        pair = f"{structure.where} = {first}"
        self.duplicates.append(pair)
        if energy is not None and structure.energy is not None and abs(energy - structure.energy) > 1e-3:
            self.contradictions.append(f"{pair} ({energy:.4f} and {structure.energy:.4f} eV)")

    def _look_at_distances(self, structure: Structure) -> None:
        pairs, _, distances = find_pairs(structure.positions, structure.cell, structure.pbc, SEARCH_RADIUS)
        if not len(distances):
            return
        radii = covalent_radii[structure.numbers]
        ratios = distances / (radii[pairs[:, 0]] + radii[pairs[:, 1]])
        closest = int(np.argmin(ratios))
        self.ratios.append(float(ratios[closest]))
        if ratios[closest] < OVERLAP_RATIO:
            self.overlaps.append(f"{structure.where} ({distances[closest]:.2f} A)")


def _judge_pairs(label: str, check: PairCheck, factors: dict[float, str]) -> Iterator[Finding]:
    slope, correlation, pairs = check.slope()
    if pairs < MIN_PAIRS:
        return
    side = "-F.dx" if label == "forces" else "V stress:strain"
    numbers = f"dE against {side} over {pairs} neighbouring frames has slope {slope:.4g}, correlation {correlation:.2f}"
    mistake = check.explain(factors)
    if mistake:
        yield Finding("warning", "units", f"{numbers}: probably {mistake}")
    elif abs(correlation) >= MIN_CORRELATION:
        yield Finding("note", "units", f"{numbers}: energies and {label} belong together")


def _is_radical_singlet(structure: Structure) -> bool:
    if structure.pbc.any():
        return False
    electrons = int(structure.numbers.sum()) - round(structure.total_charge or 0.0)
    return electrons % 2 == 1 and (structure.spin_multiplicity or 1.0) == 1.0


def _few(items: list[str]) -> str:
    more = len(items) - EXAMPLES
    return "; ".join(items[:EXAMPLES]) + (f"; and {more} more" if more > 0 else "")
