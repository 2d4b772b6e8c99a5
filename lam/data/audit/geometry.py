"""Overlapping atoms, degenerate cells, lone elements and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from lam.data.audit.check import Check, Context, View, room
from lam.data.audit.finding import Examples, Finding, Repair
from lam.data.audit.ledger import Ledger
from lam.data.neighbors import find_pairs
from lam.data.structure import ISOLATED_ATOM, Structure

OVERLAP_RATIO = 0.4  # of the sum of covalent radii
DEPENDENT = 0.02
"""Volume of the cell over that of a box with the same edges: Structure refuses 0.001, layered crystals have 0.04."""
PACKED = 4.0
"""Volume of the covalent spheres over that of the cell; close packing has 0.74, 1000 GPa about 2."""
VACUUM = 2000.0  # Angstrom^3 per atom
TRUE_VACUUM = 60.0  # Angstrom of empty space along a periodic direction
FEW = 3
"""Structures with an element, of many: too few to learn it."""
MANY = 200
OUTSIDE = 0.05
"""Fraction of the cell by which an atom may stick out of a cell that is not periodic."""
LARGE = 2000  # atoms
ALONE, FAR = 8.0, 15.0  # Angstrom
MOST_ISOLATED = 10_000
TOUCH = (0.7, 1.3)
"""Distance over the sum of covalent radii that counts as a bond across a boundary."""


class Distances(Check):
    """Atoms on top of each other, and how far the nearest are apart."""

    columns = {"bond_ratio": ("f4", ()), "nearest": ("f4", ())}

    def __init__(self) -> None:
        self.overlaps = Examples()

    def see(self, view: View) -> None:
        """Find the nearest pair."""
        ratios = view.bond_ratios
        if not len(ratios):
            self._look_farther(view)
            return
        closest = int(np.argmin(ratios))
        # The hydrogens of a molecule have the shortest bonds: the nearest pair stands for the structure.
        view.put(bond_ratio=ratios[closest], nearest=view.neighbours[2].min())
        if ratios[closest] < OVERLAP_RATIO:
            self.overlaps.add(view.name, f"{view.neighbours[2][closest]:.2f} A")

    @staticmethod
    def _look_farther(view: View) -> None:
        """Positions in another unit may be far apart: the nearest pair must be known all the same."""
        s = view.structure
        if len(s) > 1 or s.pbc.any():
            pairs, _, distances = find_pairs(s.positions, s.cell, s.pbc, FAR * room(s))
            if len(distances):
                ratios = distances / covalent_radii[s.numbers][pairs].sum(axis=1)
                view.put(bond_ratio=ratios.min(), nearest=distances.min())

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Tell about overlaps."""
        if self.overlaps:
            text = f"atoms overlap in {self.overlaps.count}"
            yield self.overlaps.finding(
                "warning",
                "overlap",
                text,
                confidence=0.9,
                why=f"they are closer than {OVERLAP_RATIO} of the sum of their covalent radii",
                action="leave these structures out, unless they are meant to teach the repulsion",
            )


class Cells(Check):
    """Cells without room, with too much of it, nearly flat, or at odds with the periodicity."""

    def __init__(self) -> None:
        self.flat, self.tiny, self.empty = Examples(), Examples(), Examples()
        self.left_handed, self.outside, self.unperiodic = Examples(), Examples(), Examples()
        self.with_cell = 0

    def see(self, view: View) -> None:
        """Look at the cell."""
        s = view.structure
        if not s.cell.any():
            return
        lengths = np.linalg.norm(s.cell, axis=1)
        if (lengths < 1e-6).any():
            return
        self.with_cell += 1
        signed = float(np.linalg.det(s.cell))
        if s.pbc.all():
            self._look_at_volume(view, abs(signed), lengths)
            if signed < 0:
                self.left_handed.add(view.name)
        if not s.pbc.all() and signed:
            self._look_at_boundaries(view)

    def _look_at_volume(self, view: View, volume: float, lengths: np.ndarray) -> None:
        s = view.structure
        if volume / float(np.prod(lengths)) < DEPENDENT:
            self.flat.add(view.name, f"{volume / float(np.prod(lengths)):.3f} of a box")
        spheres = float((4 / 3 * np.pi * covalent_radii[s.numbers] ** 3).sum())
        if spheres > PACKED * volume:
            self.tiny.add(view.name, f"{volume / len(s):.2f} A^3/atom")
        if volume / len(s) > VACUUM and len(s) > 1 and _widest_gap(s.positions, s.cell) > TRUE_VACUUM:
            self.empty.add(view.name, f"{volume / len(s):.0f} A^3/atom")

    def _look_at_boundaries(self, view: View) -> None:
        s = view.structure
        fractional = np.linalg.solve(s.cell.T, s.positions.T).T[:, ~s.pbc]
        if (fractional < -OUTSIDE).any() or (fractional > 1 + OUTSIDE).any():
            if s.pbc.any():
                return  # a slab whose third vector only gives a direction
            self.outside.add(view.name)
        elif _bonded_across(view):
            self.unperiodic.add(view.name)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Tell about odd cells."""
        if self.flat:
            yield self.flat.finding(
                "warning",
                "cell",
                f"{self.flat.count} cells are nearly flat: their vectors are almost linearly dependent",
                confidence=0.8,
                why=f"their volume is below {DEPENDENT} of that of a box with the same edges",
                action="check the order of the nine numbers, or reduce the cell (ase.build.niggli_reduce)",
            )
        if self.tiny:
            yield self.tiny.finding(
                "warning",
                "cell",
                f"{self.tiny.count} cells are too small for their atoms",
                confidence=0.9,
                why=f"the covalent spheres fill them more than {PACKED:g} times",
                action="check the unit of the cell and whether cell and atoms belong together",
            )
        if self.empty:
            yield self.empty.finding(
                "note",
                "cell",
                f"{self.empty.count} periodic cells are almost empty",
                confidence=0.7,
                why=f"more than {TRUE_VACUUM:g} A of vacuum in every direction",
                action="if it is a molecule in a box, set pbc to false: its stress means nothing",
            )
        if self.left_handed:
            text = f"{self.left_handed.count} cells are left-handed"
            why, action = "negative determinant; lam does not mind, other codes do", ""
            yield self.left_handed.finding("note", "cell", text, why=why, action=action)
        if self.outside:
            yield self.outside.finding(
                "note",
                "cell",
                f"in {self.outside.count} structures that are not periodic, atoms lie outside of the cell",
                confidence=0.6,
                why="a cell that is not periodic has no effect on energies, but was something else meant?",
                action="check pbc and the unit of the cell; drop the cell if it means nothing",
            )
        if self.unperiodic:
            yield self.unperiodic.finding(
                "warning",
                "cell",
                f"{self.unperiodic.count} structures have a cell but are not periodic (in all directions), and would "
                "be bonded across its boundaries",
                confidence=0.85,
                why="with periodicity switched on, atoms on opposite faces are a bond apart, and none overlap",
                action="set pbc to true if the calculation was periodic",
            )


class Inventory(Check):
    """Elements that hardly occur, and sizes out of the ordinary."""

    def __init__(self) -> None:
        self.elements: Counter[int] = Counter()
        self.first: dict[int, list[str]] = {}
        self.large, self.isolated = Examples(), Examples()
        self.isolated_rows: list[int] = []
        self.total = 0

    def see(self, view: View) -> None:
        """Count."""
        self.total += 1
        for z in np.unique(view.structure.numbers).tolist():
            self.elements[z] += 1
            names = self.first.setdefault(z, [])
            if len(names) < FEW:
                names.append(view.name)
        if len(view.structure) > LARGE:
            self.large.add(view.name, f"{len(view.structure)} atoms")
        s = view.structure
        if len(s) == 1 and s.energy is not None and s.group != ISOLATED_ATOM and _alone(s):
            self.isolated.add(view.name, s.formula)
            if len(self.isolated_rows) < MOST_ISOLATED:
                self.isolated_rows.append(view.index)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Tell about rarities."""
        rare = [z for z, count in sorted(self.elements.items()) if count < FEW]
        if rare and self.total >= MANY:
            symbols = " ".join(chemical_symbols[z] for z in rare)
            names = tuple(name for z in rare for name in self.first[z])
            message = f"{len(rare)} element(s) occur in fewer than {FEW} of {self.total} structures: {symbols}"
            why, action = "counted", "add structures with them or leave these out: so few do not teach an element"
            yield Finding("note", "elements", message, names[:50], len(names), 1.0, why, action)
        if self.isolated:
            yield self.isolated.finding(
                "note",
                "isolated atoms",
                f"{self.isolated.count} structures are isolated atoms but not marked as such",
                confidence=0.95,
                why=f"one atom, and no image within {ALONE:g} Angstrom",
                action=f"set config_type={ISOLATED_ATOM} (--fix does): their energies then guide the references",
                repair=Repair("mark isolated", rows=tuple(self.isolated_rows)),
            )
        if self.large:
            text = f"{self.large.count} structures have more than {LARGE} atoms"
            action = "check that they fit into a batch's budget of atoms and edges"
            yield self.large.finding("note", "sizes", text, why="counted", action=action)


def _alone(structure: Structure) -> bool:
    """Is a single atom far from its images?"""
    if not structure.pbc.any():
        return True
    return not len(find_pairs(structure.positions, structure.cell, structure.pbc, ALONE)[2])


def _widest_gap(positions: np.ndarray, cell: np.ndarray) -> float:
    """Return the smallest, over the three directions, of the widest empty layers (Angstrom)."""
    fractional = np.linalg.solve(cell.T, positions.T).T % 1.0
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    gaps = []
    for axis in range(3):
        places = np.sort(fractional[:, axis])
        gaps.append(float(np.diff(np.append(places, places[0] + 1)).max() * heights[axis]))
    return min(gaps)


def _bonded_across(view: View) -> bool:
    """Would a third of the faces' atoms be bonded to images, without any overlap, if the cell were periodic?"""
    s = view.structure
    if len(s) < 4 or len(s) > 1000:
        return False
    reach = TOUCH[1] * 2 * float(covalent_radii[s.numbers].max())
    if (1 / np.linalg.norm(np.linalg.inv(s.cell), axis=0) < 1.5).any():
        return False
    pairs, shift, distances = find_pairs(s.positions, s.cell, np.ones(3, dtype=bool), reach)
    radii = covalent_radii[s.numbers]
    ratios = distances / (radii[pairs[:, 0]] + radii[pairs[:, 1]])
    open_axes = np.flatnonzero(~s.pbc)
    across = shift[:, open_axes].any(axis=1)
    if not across.any() or ratios[across].min() < TOUCH[0]:
        return False
    bonded = across & (ratios < TOUCH[1])
    touching = len(np.unique(pairs[bonded, 0]))
    every_direction = all((shift[bonded, axis] != 0).any() for axis in open_axes)
    return every_direction and touching >= 0.1 * len(s)
