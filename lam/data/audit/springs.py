"""Forces against the lengths of bonds, which needs no two structures to be alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lam.data.audit.bonds import MIN_BONDS, Springs, measure, modelled, own_springs, rank_correlation
from lam.data.audit.check import Check, Context
from lam.data.audit.finding import Finding, Repair, few
from lam.data.audit.ledger import Ledger
from lam.data.audit.units import FORCE_UNITS, force_units_near
from lam.data.audit.work import Work

MOST_STRUCTURES, MOST_ATOMS = 600, 40_000
WRONG_SIGN = 0.3
"""Mean rank correlation of force and length; right data have at most 0.08, and relaxed structures none."""
CERTAIN_SIGN = 0.6
UNRELATED, ACTIVE = 0.12, (0.3, 10.0)
ENOUGH_BONDS = 200
OWN_BONDS, CLEAR, MIN_OWN = 4, 6.0, 1.5
"""Bonds of a structure that is judged, and standard deviations: of a single one or all together, and of each."""
MIN_JUDGED, OPPOSITE, UNCLEAR = 15, 0.4, 0.1
FEW = 3
"""Single structures with odd forces below which they are pointed out rather than called wrong."""
EVEN = 2.5
"""Single structures are judged if the forces of most are within this factor of what the lengths of bonds let expect."""
MIN_ODD, MIN_PART, SAME_UNIT = 3, 0.02, 0.3
"""Structures of another unit at least, and their share: a few relaxed ones may look so."""
PLAUSIBLE = ("Hartree/Bohr", "Hartree/Angstrom", "kcal/mol/Angstrom", "kJ/mol/Angstrom")
OTHER_ORDER, ORDER_GAIN = 0.5, 0.2
"""Rank correlation of forces with those of springs in the next frame, and how far above that in their own."""


class BondForces(Check):
    """Judges forces by the bonds; after :class:`~lam.data.audit.work.Work`, which knows more exactly."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.springs = Springs()

    def measure(self, ledger: Ledger, context: Context) -> Springs:
        """Look at structures spread evenly; what a check before this one judged may want it, too."""
        rows = np.flatnonzero(ledger["n_atoms"] > 1)
        most = (
            min(MOST_STRUCTURES, int(MOST_ATOMS / max(1.0, float(ledger["n_atoms"][rows].mean())))) if len(rows) else 0
        )
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, max(most, 1)).astype(np.int64))] if len(rows) else rows
        known = ((row, context.fetch(int(ledger["index"][row]))) for row in chosen.tolist())
        self.springs = measure((row, structure) for row, structure in known if structure is not None)
        return self.springs

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Judge the forces of all, then of single structures, then their order."""
        if not self.springs.of:
            self.measure(ledger, context)
        if "forces" not in self.work.named:
            yield from self._judge_forces()
        yield from self._judge_singles(ledger)
        yield from self._judge_order(ledger)

    def _judge_forces(self) -> Iterator[Finding]:
        springs = self.springs
        if springs.count < MIN_BONDS:
            return
        correlation, ruler = springs.correlation, springs.ruler
        numbers = f"over {springs.count} bonds, rank correlation of pull and length {-correlation:+.2f}"
        units = force_units_near(ruler)
        wrong_sign = correlation > WRONG_SIGN and springs.strong > 0.2
        if wrong_sign:
            certain = correlation > CERTAIN_SIGN and springs.strong > 0.8 and springs.count > ENOUGH_BONDS and not units
            yield Finding(
                "warning",
                "units",
                f"stretched bonds push and compressed ones pull ({numbers}): the forces have the wrong sign (they are "
                "gradients)",
                (),
                len(springs.of),
                round(min(0.99, 0.75 + 0.3 * correlation), 2),
                "whatever the method, a stretched bond pulls; right forces have a positive correlation, or none",
                "multiply the forces by -1" + (" (--fix does)" if certain else ""),
                Repair("scale", "forces", -1.0) if certain else None,
            )
        if units:
            others = f" (or {units[1]})" if len(units) > 1 else ""
            yield Finding(
                "warning",
                "units",
                f"forces along bonds are {ruler:.3g} times what stretched bonds have (over {springs.count} bonds): the "
                f"forces look like {units[0]}{others}, not eV/Angstrom",
                (),
                len(springs.of),
                0.85,
                "in 45 public data sets of all kinds this factor is 0.5 to 4.2",
                f"convert the forces to eV/Angstrom: multiply by {1 / FORCE_UNITS[units[0]]:.6g} if it is {units[0]}",
            )
        count, organic, activity = springs.organic()
        if count >= ENOUGH_BONDS and abs(organic) < UNRELATED and ACTIVE[0] < activity < ACTIVE[1] and not wrong_sign:
            mixed = [number for number, bonds in springs.of.items() if abs(own_springs(bonds, springs.kinds)[1]) > 0.5]
            if len(mixed) > 0.5 * len(springs.of):
                return  # of both signs: said about the single structures
            yield Finding(
                "warning",
                "forces",
                f"forces have the right size but nothing to do with the lengths of bonds (rank correlation "
                f"{-organic:+.2f} over {count} bonds between H, C, N, O and F): another order of the atoms, or "
                "another frame's?",
                (),
                len(springs.of),
                0.85,
                "in right data sets of molecules that are not relaxed, it is 0.55 to 0.96",
                "check that forces and positions have the same order of atoms and frames",
            )

    def _judge_singles(self, ledger: Ledger) -> Iterator[Finding]:
        """Structures whose forces are at odds with their bonds, unlike the others'."""
        found = {row: own_springs(bonds, self.springs.kinds) for row, bonds in self.springs.of.items()}
        rows = np.array([row for row, (count, _, size) in found.items() if count >= OWN_BONDS and size > 0], dtype=int)
        if len(rows) < MIN_JUDGED:
            return
        counts, fits, sizes = (np.array(values) for values in zip(*(found[row] for row in rows.tolist()), strict=True))
        usual, size = float(np.median(np.abs(fits))), float(np.median(sizes))
        low, high = np.quantile(sizes, (0.3, 0.75))
        # Where much is between right and wrong, as along broken bonds, springs are no measure.
        if usual < 0.5 or high > EVEN * low or (np.abs(fits) < 0.6 * usual).mean() > UNCLEAR:
            return
        # Relaxed structures have small forces of any direction.
        ordinary = (sizes > size / EVEN) & (sizes < EVEN * size)
        # How many standard deviations a correlation is from the usual one (Fisher).
        wide = np.sqrt(counts - 3.0)
        right = np.arctanh(np.clip(np.abs(np.median(fits)) if np.median(fits) else usual, 0, 0.97))
        own = np.arctanh(np.clip(fits, -0.97, 0.97))
        sign = 1 if np.median(fits) > 0 else -1
        if (fits < -0.4).mean() > 0.05 and (fits > 0.4).mean() > 0.05:
            sign, right = 1, np.arctanh(min(usual, 0.97))  # of both signs: the right one is known
        opposite = (sign * fits < -OPPOSITE) & ordinary
        for place in np.flatnonzero(opposite).tolist():  # not only along the bonds, but all forces
            opposite[place] = sign * self._alike(int(rows[place])) < -OPPOSITE
        flipped = _clearly((right - sign * own) * wide, opposite)
        yield from self._single(
            ledger, rows[flipped], "forces of the wrong sign", 0.9,
            "stretched bonds push in these, and pull in the others",
            "multiply the forces of these by -1, or leave them out",
        )  # fmt: skip
        follow = (np.abs(fits) > 0.6 * usual) & (np.abs(own) * wide > MIN_OWN)
        for unit in PLAUSIBLE:
            odd = follow & (np.abs(np.log(sizes / size / FORCE_UNITS[unit])) < SAME_UNIT)
            if max(MIN_ODD, MIN_PART * len(odd)) <= odd.sum() < 0.6 * len(odd):
                factor = float(np.median(sizes[odd])) / size
                yield from self._single(
                    ledger, rows[odd], f"forces {factor:.3g} times those of the others, probably in {unit}", 0.85,
                    "the same bonds, stretched alike, have forces of another size", "convert the forces of these",
                )  # fmt: skip
        shuffled = (np.abs(fits) < 0.25) & ((right - np.abs(own)) * wide > CLEAR) & (usual > 0.75)
        shuffled &= ordinary
        for place in np.flatnonzero(shuffled).tolist():
            shuffled[place] = abs(self._alike(int(rows[place]))) < 0.25
        if MIN_ODD <= shuffled.sum() < 0.5 * len(shuffled):
            yield from self._single(
                ledger, rows[shuffled], "forces that do not fit their positions", 0.75,
                "the forces have the usual size but nothing to do with the lengths of the bonds, unlike in the others",
                "look for another order of atoms, or forces of another frame",
            )  # fmt: skip

    def _alike(self, row: int) -> float:
        """Return the correlation of all forces of a structure with those of springs."""
        bonds = self.springs.of[row]
        model = modelled(bonds, self.springs.kinds).forces.ravel()
        stored = np.zeros(1) if bonds.forces is None else bonds.forces.ravel()
        return float(np.corrcoef(model, stored)[0, 1]) if model.std() and stored.std() else 0.0

    @staticmethod
    def _single(ledger: Ledger, rows: np.ndarray, what: str, sure: float, why: str, action: str) -> Iterator[Finding]:
        if len(rows):
            names = ledger.names(rows)
            message = f"{len(rows)} structure(s) have {what}: {few(list(names), len(rows))}"
            if len(rows) < FEW:  # chance, or bonds that are no springs: not enough to speak of a mistake
                yield Finding("note", "forces", f"{message}?", names, len(rows), min(sure, 0.6), why, action)
            else:
                yield Finding("warning", "forces", message, names, len(rows), sure, why, action)

    def _judge_order(self, ledger: Ledger) -> Iterator[Finding]:
        """Are the forces those of the frame before or after?"""
        rows = sorted(self.springs.of)
        sides: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {lag: ([], []) for lag in (0, 1, -1)}
        forces = {row: modelled(self.springs.of[row], self.springs.kinds).forces for row in rows}
        for row in rows:
            bonds = self.springs.of[row]
            for lag, (model, stored) in sides.items():
                other = self.springs.of.get(row + lag)
                if other is not None and other.forces is not None and np.array_equal(other.numbers, bonds.numbers):
                    model.append(forces[row].ravel())
                    stored.append(other.forces.ravel())
        fits = {}
        for lag, (model, stored) in sides.items():
            if len(model) >= MIN_JUDGED:
                fits[lag] = rank_correlation(np.concatenate(model), np.concatenate(stored))
        if len(fits) < 3:
            return
        best = max((1, -1), key=lambda lag: abs(fits[lag]))
        if abs(fits[best]) > max(OTHER_ORDER, abs(fits[0]) + ORDER_GAIN):
            which = "before" if best > 0 else "after"
            yield Finding(
                "warning",
                "forces",
                f"the forces belong to other frames: they fit the bonds of the frame {which} the one they should be of "
                f"(correlation {fits[best]:.2f}, their own {fits[0]:.2f})",
                (),
                len(rows),
                0.95,
                "forces along bonds follow from the bonds' lengths",
                "read forces and positions of the same frame; one of the two lists is one frame off",
            )


def _clearly(deviations: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the candidates that are far off, (n,) bool: small molecules tell only together."""
    candidates = candidates & (deviations > 2)
    count = int(candidates.sum())
    together = float(deviations[candidates].sum()) / np.sqrt(count) if count >= 3 else 0.0
    return candidates if together > CLEAR + 1 else candidates & (deviations > CLEAR)
