"""A molecule, a crystal, a surface and a liquid, built without any file or download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.geometry import get_distances

WATER_DENSITY = 0.997
"""g/cm^3, of the liquid at 298 K."""
_MOLAR_MASS, _AVOGADRO = 18.015, 0.602214  # g/mol; per mol and Angstrom^3 times 1e-24


@dataclass(frozen=True)
class Example:
    """A structure of the zero-shot part."""

    kind: str
    """Molecule, crystal, surface or liquid."""
    name: str
    """What it is."""
    atoms: Atoms
    """The structure, displaced a little, so that forces act."""
    head: str
    """Head (level of theory) that suits it, by the data that it was trained on."""


def examples() -> list[Example]:
    """Return the structures of the zero-shot part."""
    return [
        Example("molecule", "ethanol", ethanol(), "ethanol-methanol-botnet"),
        Example("crystal", "Si, stretched by 1 %", silicon(), "mlearn"),
        Example("surface", "CO on Pt(111)", carbon_monoxide_on_platinum(), "pt-co-surfaces"),
        Example("liquid", "32 H2O", water_box(), "water-ice-scan"),
    ]


def ethanol() -> Atoms:
    """Return ethanol, in vacuum."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def silicon() -> Atoms:
    """Return a conventional cell of silicon, stretched by 1 % and displaced."""
    atoms = bulk("Si", "diamond", a=5.43 * 1.01, cubic=True)
    atoms.rattle(0.05, seed=2)
    return atoms


def carbon_monoxide_on_platinum() -> Atoms:
    """Return a Pt(111) slab of four layers with CO on top of an atom, periodic with 14 Angstrom of vacuum."""
    atoms = fcc111("Pt", (2, 2, 4), a=3.97, vacuum=7.0)
    add_adsorbate(atoms, Atoms("CO", [(0, 0, 0), (0, 0, 1.15)]), 1.85, "ontop")
    del atoms.info["adsorbate_info"]  # bookkeeping of ASE's, which files cannot hold
    atoms.pbc = True
    atoms.rattle(0.05, seed=3)
    return atoms


def water_box(cells: int = 2, *, seed: int = 4) -> Atoms:
    """Return ``4 * cells**3`` water molecules in a cube at the density of the liquid, turned at random.

    The centres are those of a displaced face-centred lattice; each molecule is turned until it keeps 1.7
    Angstrom from those before it. It is where a simulation starts, not an equilibrated liquid.
    """
    random = np.random.default_rng(seed)
    count = 4 * cells**3
    length = (count * _MOLAR_MASS / WATER_DENSITY / _AVOGADRO) ** (1 / 3)
    centers = bulk("Ar", "fcc", a=length / cells, cubic=True).repeat(cells).positions
    box = Atoms(cell=[length] * 3, pbc=True)
    for center in centers + random.normal(scale=0.1, size=(count, 3)):
        box += _turned_water(center, box, random)
    return box


def _turned_water(center: np.ndarray, box: Atoms, random: np.random.Generator) -> Atoms:
    best, widest = molecule("H2O"), -1.0
    for _ in range(100):
        water = molecule("H2O")
        water.rotate(random.uniform(0, 360), random.normal(size=3), center="COM")
        water.positions += center - water.get_center_of_mass()
        gap = np.inf
        if len(box):
            gap = get_distances(water.positions, box.positions, cell=box.cell, pbc=True)[1].min()
        if gap > widest:
            best, widest = water, gap
        if gap > 1.7:
            break
    return best
