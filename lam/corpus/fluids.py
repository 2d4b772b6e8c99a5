"""Droplets, and liquids and dense gases in cells that are wide enough for the Gamma point."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances

from lam.corpus.context import Context, direction, rattled, rotation
from lam.corpus.elements import lowest_multiplicity
from lam.corpus.embed import embed
from lam.corpus.graph import Graph, parse, words
from lam.corpus.sample import Sample

SOLVENTS = words("""
O [NH3] CO CCO CC#N ClC(Cl)Cl ClC(Cl)(Cl)Cl S [FH] [ClH] C CC CC(=O)C CS(=O)C c1ccccc1 CS O=C=O O=S=O N#N [SiH4]
C=O OO NN [BrH] [IH] COC Cl[Si](Cl)(Cl)Cl Cl[Ti](Cl)(Cl)Cl BrBr ClCl Cl[Sn](Cl)(Cl)Cl [Ne] [Ar] [Kr] [Xe] [Rn]
[He] [SeH2] [PH3] Cl[Ge](Cl)(Cl)Cl FS(F)(F)(F)(F)F ClP(Cl)Cl Cl[As](Cl)Cl II S=C=S [Hg] C[Hg]C CB CNC=O O=CN
""")
SALTS = ("[Na+] [Cl-]", "[K+] [Br-]", "[Li+] [F-]", "[Cs+] [I-]", "[Rb+] [Cl-]", "[NH4+] [Cl-]", "[Mg+2] [Cl-] [Cl-]",
         "[Ca+2] [F-] [F-]", "[Zn+2] [Cl-] [Cl-]", "[Na+] [OH-]", "[K+] [C-]#N", "[Ag+] [F-]", "[Ba+2] [Cl-] [Cl-]",
         "[Na+] O=C[O-]", "[Al+3] [F-] [F-] [F-]", "[La+3] [Cl-] [Cl-] [Cl-]", "[Pb+2] [Cl-] [Cl-]")  # fmt: skip
SINGLE_IONS = [
    "[Na+]",
    "[K+]",
    "[Cl-]",
    "[F-]",
    "[Br-]",
    "[I-]",
    "[NH4+]",
    "[OH-]",
    "[OH3+]",
    "[Ca+2]",
    "[Mg+2]",
    "[Li+]",
    "[Cs+]",
    "[Zn+2]",
    "[SH-]",
]
GAP = 1.1
"""Angstrom beyond covalent radii that molecules keep from each other, at least."""
WIDTH = 22.2
"""Angstrom; a cell of this width needs no k-points (``lam.label.periodic.SAFE_WIDTH``)."""


def droplets(context: Context) -> Iterator[Sample]:
    """Yield droplets of one or two solvents, some with an ion or a pair of ions inside."""
    random = context.random
    while True:
        kinds = [parse(str(name)) for name in random.choice(SOLVENTS, int(random.choice([1, 1, 2])), replace=False)]
        inside: list[Graph] = []
        draw = random.random()
        if draw < 0.25:
            inside = [parse(SINGLE_IONS[random.integers(len(SINGLE_IONS))])]
        elif draw < 0.5:
            inside = [parse(ion) for ion in SALTS[random.integers(len(SALTS))].split()]
        size = sum(map(len, inside))
        limit = random.uniform(0.3, 1.0) * context.max_atoms
        members = list(inside)
        while size < limit and len(members) < 30:
            members.append(kinds[random.integers(len(kinds))])
            size += len(members[-1])
        if size > context.max_atoms:
            members.pop()
        atoms = _droplet(members, random) if len(members) > 1 else None
        if atoms is not None:
            charge = sum(member.charge for member in members)
            yield Sample(atoms, "ion-droplet" if inside else "droplet", atoms.get_chemical_formula(), charge)


def liquids(context: Context, width: float = WIDTH) -> Iterator[Sample]:
    """Yield cubes of at least ``width`` Angstrom with molecules at random, from gas-like to as dense as atoms allow.

    The number of atoms decides: small, heavy molecules reach the density of the liquid, water does not.
    """
    random = context.random
    while True:
        kinds = [parse(str(name)) for name in random.choice(SOLVENTS, int(random.choice([1, 1, 2])), replace=False)]
        mean = sum(map(len, kinds)) / len(kinds)
        count = int(random.uniform(0.4, 1.0) * context.max_atoms / mean)
        members = [kinds[random.integers(len(kinds))] for _ in range(max(count, 2))]
        atoms = _filled(members, width * random.uniform(1.0, 1.08), random)
        if atoms is not None:
            spin = lowest_multiplicity(atoms.numbers, 0)  # molecules, though the cell is periodic
            yield Sample(atoms, "fluid", atoms.get_chemical_formula(), multiplicity=spin)


def _shape(graph: Graph, random: np.random.Generator) -> np.ndarray | None:
    places = embed(graph, random)
    if places is None:
        return None
    return (places - places.mean(axis=0)) @ rotation(random)


def _droplet(members: list[Graph], random: np.random.Generator) -> Atoms | None:
    """Put molecules one by one as near to the centre as a random direction lets them."""
    numbers, positions = np.zeros(0, dtype=int), np.zeros((0, 3))
    looseness = random.uniform(0.0, 0.4)
    for member in members:
        places = _shape(member, random)
        if places is None:
            return None
        z = np.array(member.numbers)
        if len(positions):
            best = None
            for _ in range(8):
                way = direction(random)
                distance = _slide(places, z, positions, numbers, way, GAP + looseness)
                if best is None or distance < best[0]:
                    best = (distance, way)
            places = places + best[0] * best[1]
        numbers, positions = np.concatenate([numbers, z]), np.vstack([positions, places])
    return rattled(Atoms(numbers, positions), 0.03, random)


def _slide(
    places: np.ndarray, z: np.ndarray, positions: np.ndarray, numbers: np.ndarray, way: np.ndarray, gap: float
) -> float:
    """Return the shortest way out along a direction at which no atoms are too close: roots of a quadratic each."""
    need = covalent_radii[z][:, None] + covalent_radii[numbers][None, :] + gap
    offset = places[:, None] - positions[None, :]
    along = offset @ way
    discriminant = along**2 - (offset**2).sum(axis=2) + need**2
    touching = discriminant > 0
    if not touching.any():
        return 0.0
    return float(max(0.0, (-along[touching] + np.sqrt(discriminant[touching])).max()))


def _filled(members: list[Graph], width: float, random: np.random.Generator) -> Atoms | None:
    """Put molecules at random into a cube; those for which no room is found in 60 attempts are left out."""
    cell = np.eye(3) * width
    numbers, positions, placed = np.zeros(0, dtype=int), np.zeros((0, 3)), 0
    for member in members:
        shape = _shape(member, random)
        if shape is None:
            return None
        z = np.array(member.numbers)
        for _ in range(60):
            places = shape @ rotation(random) + random.uniform(0, width, 3)
            if len(positions):
                need = covalent_radii[z][:, None] + covalent_radii[numbers][None, :] + GAP
                if (get_distances(places, positions, cell=cell, pbc=True)[1] < need).any():
                    continue
            numbers, positions, placed = np.concatenate([numbers, z]), np.vstack([positions, places]), placed + 1
            break
    return rattled(Atoms(numbers, positions, cell=cell, pbc=True), 0.03, random) if placed > 1 else None
