"""What the generators know of elements: radii, classes, usual oxidation states and bond lengths."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase.data import atomic_numbers, covalent_radii, reference_states

MAX_Z = 86
ALL = tuple(range(1, MAX_Z + 1))
NOBLE = (2, 10, 18, 36, 54, 86)
LANTHANIDES = tuple(range(57, 72))


def _z(symbols: str) -> tuple[int, ...]:
    return tuple(atomic_numbers[symbol] for symbol in symbols.split())


NONMETALS = _z("H B C N O F Si P S Cl Ge As Se Br Sb Te I At")
ANIONS = _z("H C N O F P S Cl As Se Br Te I At")
METALS = tuple(z for z in ALL if z not in NONMETALS and z not in NOBLE)
D_BLOCK = (*range(21, 31), *range(39, 49), *range(72, 81))
HOMOLOGUES = {
    z: group
    for group in map(_z, ("F Cl Br I At", "O S Se Te Po", "N P As Sb Bi", "C Si Ge Sn Pb", "B Al Ga In Tl"))
    for z in group
}
"""Elements that may take each other's place in a molecule."""

OXIDATION = {
    atomic_numbers[symbol]: tuple(states)
    for symbol, states in {
        "Li": [1], "Be": [2], "Na": [1], "Mg": [2], "Al": [3], "K": [1], "Ca": [2], "Sc": [3], "Ti": [2, 3, 4],
        "V": [2, 3, 4, 5], "Cr": [2, 3, 6], "Mn": [2, 3, 4], "Fe": [2, 3], "Co": [2, 3], "Ni": [2], "Cu": [1, 2],
        "Zn": [2], "Ga": [3], "Rb": [1], "Sr": [2], "Y": [3], "Zr": [4], "Nb": [3, 5], "Mo": [3, 4, 6],
        "Tc": [4, 5], "Ru": [2, 3], "Rh": [1, 3], "Pd": [2, 4], "Ag": [1], "Cd": [2], "In": [1, 3], "Sn": [2, 4],
        "Cs": [1], "Ba": [2], "Hf": [4], "Ta": [5], "W": [4, 6], "Re": [3, 5], "Os": [3, 4], "Ir": [1, 3],
        "Pt": [2, 4], "Au": [1, 3], "Hg": [2], "Tl": [1, 3], "Pb": [2, 4], "Bi": [3], "Po": [2, 4],
    }.items()
} | dict.fromkeys(LANTHANIDES, (3,))  # fmt: skip
"""Usual oxidation states of metals."""

VALENCES = {
    atomic_numbers[symbol]: tuple(states)
    for symbol, states in {
        "H": [1], "B": [3], "C": [4], "N": [3], "O": [2], "F": [1], "Si": [4], "P": [3, 5], "S": [2, 4, 6],
        "Cl": [1, 3, 5], "Ge": [2, 4], "As": [3, 5], "Se": [2, 4, 6], "Br": [1, 3, 5], "Sb": [3, 5],
        "Te": [2, 4, 6], "I": [1, 3, 5, 7], "At": [1], "Xe": [2, 4, 6], "Kr": [2], "Rn": [2],
    }.items()
} | OXIDATION  # fmt: skip
"""How many single bonds a central atom forms."""


@lru_cache(maxsize=1)
def metallic_radii() -> np.ndarray:
    """Return half the distance of neighbours in the element's crystal, (119,), Angstrom; covalent radii elsewhere."""
    radii = covalent_radii[:119].copy()
    factor = {"fcc": 0.5 / np.sqrt(2), "bcc": np.sqrt(3) / 4, "hcp": 0.5, "diamond": np.sqrt(3) / 8, "sc": 0.5}
    for z in METALS:
        state = reference_states[z]
        if state and state.get("symmetry") in factor and "a" in state:
            radii[z] = factor[state["symmetry"]] * state["a"]
    return radii


@lru_cache(maxsize=1)
def contact_lengths() -> np.ndarray:
    """Return usual distances of neighbours in solids by pair of elements, (119, 119), Angstrom.

    Sums of metallic radii between metals, of covalent radii otherwise, and van der Waals-like for noble gases.
    """
    covalent = covalent_radii[:119][:, None] + covalent_radii[:119][None, :]
    metallic = metallic_radii()[:, None] + metallic_radii()[None, :]
    lengths = covalent.copy()
    metal = np.zeros(119, dtype=bool)
    metal[list(METALS)] = True
    both = metal[:, None] & metal[None, :]
    lengths[both] = metallic[both]
    noble = np.zeros(119, dtype=bool)
    noble[list(NOBLE)] = True
    either = noble[:, None] | noble[None, :]
    lengths[either] = covalent[either] + 1.2
    return lengths


def bond_length(a: int, b: int, order: float = 1.0) -> float:
    """Return the length of a bond between two elements, Angstrom: the covalent sum, shorter for multiple bonds."""
    shortening = {1.0: 1.0, 1.5: 0.92, 2.0: 0.87, 3.0: 0.79}
    return float((covalent_radii[a] + covalent_radii[b]) * shortening[order])


def lowest_multiplicity(numbers: np.ndarray, charge: int) -> int | None:
    """Return the lowest spin multiplicity, or ``None`` with lanthanides.

    Methods disagree on whether 4f electrons count (GFN keeps them in the core), so that none is stated then.
    """
    if np.isin(numbers, LANTHANIDES).any():
        return None
    return 1 + (int(np.sum(numbers)) - charge) % 2
