"""Crystal prototypes from one to four kinds of sites, scaled to the elements that are put there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from lam.corpus.elements import ANIONS, METALS, NOBLE, NONMETALS, VALENCES, contact_lengths

_MARKS = ("Li", "Be", "Na", "Mg")  # stand for the slots until elements are put there
METAL_CONTACT = 0.85
"""Metals may be so much closer than in the metal where a nonmetal is between them."""


@dataclass(frozen=True)
class Prototype:
    """Space group, cell and sites; ``roles`` says what each slot may hold."""

    name: str
    group: int
    cell: tuple[float, ...]
    """a, b, c (only their ratios count) and angles."""
    sites: tuple[tuple[int, tuple[float, float, float]], ...]
    """Slot and fractional coordinates."""
    roles: str
    """A letter per slot: m metal or metalloid, c cation, a anion, e any element of a crystal."""

    @property
    def slots(self) -> list[tuple[int, ...]]:
        """The elements that may stand at each slot."""
        return [ROLES[role] for role in self.roles]


_METALLOIDS = tuple(atomic_numbers[s] for s in ["B", "Si", "Ge", "As", "Sb", "Te", "P", "Se", "C"])
ROLES = {
    "m": (*METALS, *_METALLOIDS),
    "c": (*METALS, 1),
    "a": ANIONS,
    "e": tuple(z for z in (*METALS, *NONMETALS, *NOBLE)),
}
_C = (1.0, 1.0, 1.0, 90, 90, 90)
PROTOTYPES = tuple(
    Prototype(name, group, cell, tuple(sites), roles)
    for name, group, cell, sites, roles in (
        ("fcc", 225, _C, [(0, (0, 0, 0))], "e"),
        ("bcc", 229, _C, [(0, (0, 0, 0))], "e"),
        ("sc", 221, _C, [(0, (0, 0, 0))], "e"),
        ("hcp", 194, (1, 1, 1.633, 90, 90, 120), [(0, (1 / 3, 2 / 3, 0.25))], "e"),
        ("diamond", 227, _C, [(0, (0, 0, 0))], "e"),
        ("A15-element", 223, _C, [(0, (0, 0, 0)), (0, (0.25, 0, 0.5))], "e"),
        ("graphite", 194, (1, 1, 2.4, 90, 90, 120), [(0, (0, 0, 0.25)), (0, (1 / 3, 2 / 3, 0.25))], "e"),
        ("A7", 166, (1, 1, 2.7, 90, 90, 120), [(0, (0, 0, 0.233))], "e"),
        ("rocksalt", 225, _C, [(0, (0, 0, 0)), (1, (0.5, 0.5, 0.5))], "ca"),
        ("CsCl", 221, _C, [(0, (0, 0, 0)), (1, (0.5, 0.5, 0.5))], "mm"),
        ("zincblende", 216, _C, [(0, (0, 0, 0)), (1, (0.25, 0.25, 0.25))], "ca"),
        ("wurtzite", 186, (1, 1, 1.633, 90, 90, 120), [(0, (1 / 3, 2 / 3, 0)), (1, (1 / 3, 2 / 3, 0.375))], "ca"),
        ("NiAs", 194, (1, 1, 1.4, 90, 90, 120), [(0, (0, 0, 0)), (1, (1 / 3, 2 / 3, 0.25))], "cm"),
        ("h-BN", 194, (1, 1, 2.6, 90, 90, 120), [(0, (1 / 3, 2 / 3, 0.25)), (1, (2 / 3, 1 / 3, 0.25))], "ca"),
        ("fluorite", 225, _C, [(0, (0, 0, 0)), (1, (0.25, 0.25, 0.25))], "ca"),
        ("antifluorite", 225, _C, [(1, (0, 0, 0)), (0, (0.25, 0.25, 0.25))], "ca"),
        ("rutile", 136, (1, 1, 0.644, 90, 90, 90), [(0, (0, 0, 0)), (1, (0.305, 0.305, 0))], "ca"),
        ("anatase", 141, (1, 1, 2.51, 90, 90, 90), [(0, (0, 0, 0)), (1, (0, 0, 0.208))], "ca"),
        ("CdI2", 164, (1, 1, 1.6, 90, 90, 120), [(0, (0, 0, 0)), (1, (1 / 3, 2 / 3, 0.25))], "ca"),
        ("pyrite", 205, _C, [(0, (0, 0, 0)), (1, (0.385, 0.385, 0.385))], "ca"),
        ("AlB2", 191, (1, 1, 1.08, 90, 90, 120), [(0, (0, 0, 0)), (1, (1 / 3, 2 / 3, 0.5))], "mm"),
        ("L10", 123, (1, 1, 1.35, 90, 90, 90), [(0, (0, 0, 0)), (1, (0.5, 0.5, 0.5))], "mm"),
        ("L12", 221, _C, [(0, (0, 0, 0)), (1, (0, 0.5, 0.5))], "mm"),
        ("D03", 225, _C, [(0, (0, 0, 0)), (1, (0.5, 0.5, 0.5)), (1, (0.25, 0.25, 0.25))], "mm"),
        ("A15", 223, _C, [(0, (0, 0, 0)), (1, (0.25, 0, 0.5))], "mm"),
        ("C15", 227, _C, [(0, (0, 0, 0)), (1, (0.625, 0.625, 0.625))], "mm"),
        ("corundum", 167, (1, 1, 2.73, 90, 90, 120), [(0, (0, 0, 0.352)), (1, (0.306, 0, 0.25))], "ca"),
        ("ReO3", 221, _C, [(0, (0, 0, 0)), (1, (0.5, 0, 0))], "ca"),
        ("perovskite", 221, _C, [(0, (0.5, 0.5, 0.5)), (1, (0, 0, 0)), (2, (0.5, 0, 0))], "cca"),
        ("antiperovskite", 221, _C, [(0, (0.5, 0.5, 0.5)), (1, (0, 0, 0)), (2, (0.5, 0, 0))], "aac"),
        ("half-Heusler", 216, _C, [(0, (0, 0, 0)), (1, (0.25, 0.25, 0.25)), (2, (0.5, 0.5, 0.5))], "mmm"),
        ("Heusler", 225, _C, [(0, (0, 0, 0)), (1, (0.5, 0.5, 0.5)), (2, (0.25, 0.25, 0.25))], "mmm"),
        ("chalcopyrite", 122, (1, 1, 1.97, 90, 90, 90),
         [(0, (0, 0, 0)), (1, (0, 0, 0.5)), (2, (0.25, 0.25, 0.125))], "cca"),
        ("delafossite", 166, (1, 1, 5.6, 90, 90, 120), [(0, (0, 0, 0)), (1, (0, 0, 0.5)), (2, (0, 0, 0.107))], "cca"),
        ("spinel", 227, _C, [(0, (0, 0, 0)), (1, (0.625, 0.625, 0.625)), (2, (0.3875, 0.3875, 0.3875))], "cca"),
        ("elpasolite", 225, _C,
         [(0, (0.25, 0.25, 0.25)), (1, (0, 0, 0)), (2, (0.5, 0.5, 0.5)), (3, (0.245, 0, 0))], "ccca"),
        ("LiMgPdSn", 216, _C,
         [(0, (0, 0, 0)), (1, (0.25, 0.25, 0.25)), (2, (0.5, 0.5, 0.5)), (3, (0.75, 0.75, 0.75))], "mmmm"),
        ("stannite", 121, (1, 1, 1.96, 90, 90, 90),
         [(0, (0, 0.5, 0.25)), (1, (0, 0, 0)), (2, (0, 0, 0.5)), (3, (0.245, 0.245, 0.13))], "ccca"),
        ("ZrCuSiAs", 129, (1, 1, 2.2, 90, 90, 90),
         [(0, (0, 0.5, 0.14)), (1, (0, 0, 0)), (2, (0, 0, 0.5)), (3, (0, 0.5, 0.65))], "caca"),
    )
)  # fmt: skip


@cache
def _template(prototype: Prototype) -> tuple[Atoms, np.ndarray]:
    """Return the primitive or conventional cell, 10 A wide, and the slot of each atom."""
    a, b, c, *angles = prototype.cell
    slots = [slot for slot, _ in prototype.sites]
    atoms = crystal(
        [_MARKS[slot] for slot in slots],
        basis=[place for _, place in prototype.sites],
        spacegroup=prototype.group,
        cellpar=[10 * a, 10 * b, 10 * c, *angles],
    )
    marks = np.array([atomic_numbers[mark] for mark in _MARKS])
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True), np.searchsorted(marks, atoms.numbers)


def slots_of(prototype: Prototype) -> np.ndarray:
    """Return the slot of each atom of the cell, (N,)."""
    return _template(prototype)[1]


def build(prototype: Prototype, elements: list[int]) -> Atoms:
    """Return the conventional cell with elements at its slots, so large that the closest contact is a usual one."""
    atoms, slots = _template(prototype)
    atoms = atoms.copy()
    atoms.numbers = np.asarray(elements)[slots]
    first, second, distance = neighbor_list("ijd", atoms, 10.5)
    metal = np.isin(atoms.numbers, METALS)
    lengths = contact_lengths()[atoms.numbers[first], atoms.numbers[second]]
    if not metal.all():
        lengths = np.where(metal[first] & metal[second], METAL_CONTACT * lengths, lengths)
        lengths = lengths + np.where(metal[first] | metal[second], 0.0, _shared_bonds(atoms.numbers, first, distance))
    atoms.set_cell(atoms.cell.array * float((lengths / distance).max()), scale_atoms=True)
    return atoms


def _shared_bonds(numbers: np.ndarray, first: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return by how much bonds between nonmetals are longer, (pairs,), Angstrom, because an atom has more than it can.

    Pauling's rule: 0.3 A times the logarithm of neighbours over valence. Without it, fluorine in a body-centred lattice
    would be at the length of its single bond to eight others.
    """
    nearest = np.full(len(numbers), np.inf)
    np.minimum.at(nearest, first, distance)
    neighbours = np.bincount(first[distance < 1.05 * nearest[first]], minlength=len(numbers))
    valence = np.array([VALENCES.get(int(z), (4,))[0] for z in numbers])
    return 0.3 * np.log(np.maximum(1.0, neighbours / valence))[first]
