"""Which labels are there, which only look as if they were, and which are placeholders."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import Examples, Finding
from lam.data.audit.ledger import Ledger, grouped
from lam.data.dialects import CHARGE_KEYS, MULTIPLICITY_KEYS
from lam.data.labels import ENERGY_KEYS, FORCE_KEYS, STRESS_KEYS, VIRIAL_KEYS

LABELS = ("energy", "forces", "stress")
_KNOWN_KEYS = {*ENERGY_KEYS, *FORCE_KEYS, *STRESS_KEYS, *VIRIAL_KEYS, *CHARGE_KEYS, *MULTIPLICITY_KEYS}
_LABEL_WORDS = ("energy", "forces", "force", "stress", "virial", "virials")
_PREFIXES = ("ref_", "dft_", "qm_", "corrected_", "corrected_total_", "total_", "mace_")
UNEVEN = 0.05
"""Sum of unit vectors to the neighbours, damped with distance: below it the surroundings are symmetric."""
NOT_ROUNDED = 0.02
"""eV/Angstrom: with smaller forces elsewhere, zeros may come from rounding."""
MIN_STUCK = 5


class Coverage(Check):
    """How many structures have each label."""

    def __init__(self) -> None:
        self.total = 0
        self.counts: Counter[str] = Counter()
        self.periodic = 0

    def see(self, view: View) -> None:
        """Count labels."""
        self.total += 1
        self.periodic += bool(view.structure.pbc.all())
        for key in LABELS:
            self.counts[key] += getattr(view.structure, key) is not None

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Tell what is missing."""
        for key in LABELS:
            count = self.counts[key]
            if count == 0 and key != "stress":
                action = f"name the key that holds the {key}, or go without" if key == "forces" else "add energies"
                why = "counted"
                message = f"no structure has a label for {key}"
                yield Finding("warning", "coverage", message, (), self.total, 1.0, why, action)
            elif count < self.total:
                # Stress has a meaning in crystals only: what is missing in molecules asks for nothing.
                asked = count < (self.periodic if key == "stress" else self.total) and count > 0
                action = f"nothing, if the rest was computed without {key}: it is masked, never zero" if asked else ""
                message = f"{count} of {self.total} structures have a label for {key}"
                yield Finding("note", "coverage", message, (), self.total - count, 1.0, "counted", action)


class Keys(Check):
    """Values of the file that look like labels, but are not read as such."""

    def __init__(self) -> None:
        self.unused: Counter[str] = Counter()

    def see(self, view: View) -> None:
        """Look at the names."""
        if view.atoms is None:
            return
        for key in (*view.atoms.info, *view.atoms.arrays):
            if key not in _KNOWN_KEYS and _looks_like_a_label(key):
                self.unused[key] += 1

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Name them."""
        for key, times in self.unused.items():
            message = f"'{key}' ({times} frames) looks like a label but is not read as one"
            yield Finding(
                "warning",
                "keys",
                message,
                count=times,
                confidence=0.7,
                why="its name resembles energy, forces, stress or virial",
                action=f"if it is the label, rename it to REF_{_nearest_word(key)}; else leave it",
            )


class Placeholders(Check):
    """Zeros and constants that stand for labels that were never computed."""

    columns = {"mean_force": ("f4", ())}

    def __init__(self) -> None:
        self.zero_energy, self.zero_forces, self.zero_stress = Examples(), Examples(), Examples()
        self.some_stress = 0
        self.fixed_atoms = Examples()

    def see(self, view: View) -> None:
        """Look for exact zeros."""
        s = view.structure
        if s.energy == 0.0 and len(s) > 1:  # a free atom may be the zero of energy
            self.zero_energy.add(view.name)
        if s.stress is not None and len(s) > 1:
            if s.stress.any():
                self.some_stress += 1
            else:
                self.zero_stress.add(view.name)
        if s.forces is None:
            return
        still = ~s.forces.any(axis=1)
        view.put(mean_force=np.abs(s.forces).mean())
        if still.all() and len(s) > 1:
            if _largest_asymmetry(view) > UNEVEN:
                self.zero_forces.add(view.name)
        elif len(s) >= 4 and still.any() and np.median(np.abs(s.forces[~still])) > NOT_ROUNDED:
            if _asymmetry(view)[still].max(initial=0.0) < UNEVEN:
                return
            self.fixed_atoms.add(view.name, f"{int(still.sum())} of {len(s)} atoms")

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Tell about them."""
        action = "remove the label where it was not computed: missing labels are masked, zeros are learned"
        if self.zero_energy:
            message = f"{self.zero_energy.count} energies are exactly zero, which looks like a missing label"
            yield self.zero_energy.finding(
                "warning", "placeholder", message, confidence=0.9, why="a computed energy is never 0.0", action=action
            )
        if self.zero_forces:
            message = f"{self.zero_forces.count} structures have forces that are all exactly zero"
            why = "the surroundings of their atoms are not symmetric, so that forces cannot vanish exactly"
            yield self.zero_forces.finding("warning", "placeholder", message, confidence=0.95, why=why, action=action)
        if self.zero_stress:
            message = f"{self.zero_stress.count} stresses are exactly zero, which looks like a missing label"
            sure = 0.95 if self.some_stress else 0.85
            yield self.zero_stress.finding(
                "warning", "placeholder", message, confidence=sure, why="a computed stress is never 0.0", action=action
            )
        if self.fixed_atoms:
            message = f"in {self.fixed_atoms.count} structures some atoms have forces of exactly zero"
            why = "their surroundings are not symmetric: constrained atoms, whose forces an engine set to zero?"
            action = "store the forces before constraints are applied, or leave these atoms' forces out"
            yield self.fixed_atoms.finding("warning", "placeholder", message, confidence=0.8, why=why, action=action)
        yield from self._stuck_energies(ledger)

    def _stuck_energies(self, ledger: Ledger) -> Iterator[Finding]:
        """Different structures with one energy, to the last digit."""
        energies, forces = ledger["energy"], ledger["mean_force"]
        rows = np.flatnonzero(np.isfinite(energies) & (energies != 0) & ~(forces == 0))
        stuck: list[np.ndarray] = []
        for family in grouped(ledger["composition"][rows]):
            family = rows[family]
            values, place, times = np.unique(energies[family], return_inverse=True, return_counts=True)
            if times.max() < MIN_STUCK or len(values) < 2:
                continue
            # Rounded energies meet by chance: this many in a step of the rounding, if spread evenly.
            step, width = float(np.diff(values).min()), float(np.subtract(*np.quantile(values, (0.9, 0.1))))
            by_chance = 2 * len(family) * step / max(width, step)
            for number in np.flatnonzero(times >= MIN_STUCK + 5 * by_chance):
                members = family[place == number]
                moving = forces[members]
                if len(np.unique(np.round(moving[np.isfinite(moving)], 6))) >= MIN_STUCK:
                    stuck.append(members)
        if stuck:
            largest = max(stuck, key=len)
            total = sum(map(len, stuck))
            message = (
                f"{total} structures share their energy to the last digit with others whose forces differ: "
                f"{energies[largest[0]]:.6f} eV is the energy of {len(largest)}"
            )
            yield Finding(
                "warning",
                "placeholder",
                message,
                ledger.names(largest),
                total,
                0.9,
                "different forces mean different structures, whose energies cannot all be equal",
                "read the energies anew: one value was copied to many frames",
            )


def _looks_like_a_label(key: str) -> bool:
    word = key.lower()
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return bool(difflib.get_close_matches(word, _LABEL_WORDS, 1, 0.8))


def _nearest_word(key: str) -> str:
    return difflib.get_close_matches(key.lower().split("_")[-1], ("energy", "forces", "stress", "virials"), 1, 0.0)[0]


def _largest_asymmetry(view: View) -> float:
    asymmetry = _asymmetry(view)
    return float(asymmetry.max()) if len(asymmetry) else 0.0


def _asymmetry(view: View) -> np.ndarray:
    """Return how lopsided the surroundings of each atom are, (N,): 0 if inversion or rotation makes forces vanish."""
    s = view.structure
    pairs, shift, distances = view.neighbours
    vectors = s.positions[pairs[:, 1]] + shift @ s.cell - s.positions[pairs[:, 0]]
    damping = (1 - (distances / view.radius) ** 2) ** 2 * s.numbers[pairs[:, 1]] / s.numbers.max()
    weights = (damping / np.maximum(distances, 0.1))[:, None] * vectors
    sums = np.zeros((len(s), 3))
    np.add.at(sums, pairs[:, 0], weights)
    return np.linalg.norm(sums, axis=1)
