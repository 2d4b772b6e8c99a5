"""Crystals, surfaces, defects and disordered cells for engines with k-points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import make_supercell, surface
from ase.neighborlist import neighbor_list

from lam.corpus.context import Context, rattled, strained, stretched
from lam.corpus.elements import NOBLE, contact_lengths
from lam.corpus.prototypes import PROTOTYPES, ROLES, build
from lam.corpus.sample import Sample

MILLER = ((1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1))
VACUUM = 6.0
"""Angstrom on either side of a slab."""


def bulk_crystals(context: Context) -> Iterator[Sample]:
    """Yield primitive cells of compounds of planned elements, strained, under pressure and displaced."""
    random = context.random
    while True:
        crystal, name = _crystal(context, reduced=True, compound=True)
        for _ in range(int(random.integers(1, context.copies + 1))):
            atoms, how = deformed(crystal, random)
            yield Sample(atoms, f"{name}/{how}", _group(crystal, name))


def deformed(crystal: Atoms, random: np.random.Generator) -> tuple[Atoms, str]:
    """Return a crystal under pressure or tension, most of them strained along an axis of symmetry; and in which way.

    Atoms are displaced as well; a single one is not, as it would be moved with its lattice.
    """
    volume = random.uniform(0.8, 1.25)
    sigma = float(random.choice([0.0, 0.03, 0.08, 0.15]))
    how = str(random.choice(["pressure", "stretched", "strained"], p=[0.3, 0.6, 0.1]))
    if how == "strained":
        atoms = strained(crystal, float(random.choice([0.02, 0.05])), random, volume=volume)
        return (rattled(atoms, sigma, random) if len(atoms) > 1 else atoms), how
    return stretched(crystal, 0.05 if how == "stretched" else 0.0, sigma, random, volume=volume), how


def surfaces(context: Context) -> Iterator[Sample]:
    """Yield slabs of two to four layers, periodic in three directions, with vacuum."""
    random = context.random
    while True:
        crystal, name = _crystal(context)
        index = MILLER[random.integers(len(MILLER))]
        slab = surface(crystal, index, int(random.integers(1, 4)), vacuum=VACUUM)
        slab.pbc = True
        if 1 < len(slab) <= context.max_atoms:
            miller = "".join(map(str, index))
            yield Sample(rattled(slab, 0.05, random), f"{name}({miller})", _group(crystal, name))


def defects(context: Context) -> Iterator[Sample]:
    """Yield supercells with a vacancy, another element at a site, or two sites exchanged."""
    random = context.random
    while True:
        crystal, name = _crystal(context, reduced=True)
        times = random.permutation([2, 2, int(random.integers(1, 3))])
        cell = make_supercell(crystal, np.diag(times))
        if not 4 <= len(cell) <= context.max_atoms:
            continue
        how, site = str(random.choice(["vacancy", "substitution", "antisite"])), int(random.integers(len(cell)))
        others = np.flatnonzero(cell.numbers != cell.numbers[site])
        if how == "vacancy":
            del cell[site]
        elif how == "antisite" and len(others):
            other = int(random.choice(others))
            cell.numbers[[site, other]] = cell.numbers[[other, site]]
        else:
            how = "substitution"
            pool = [z for z in ROLES["m"] if z not in cell.numbers]
            cell.numbers[site] = context.coverage.choose([pool], random)[0]
        yield Sample(rattled(cell, 0.05, random), f"{name}/{how}", _group(crystal, name))


def disordered_cells(context: Context) -> Iterator[Sample]:
    """Yield cells of one to three elements packed at random: a melt or a glass, before any dynamics."""
    random = context.random
    while True:
        slots = [tuple(z for z in ROLES["e"] if z not in NOBLE)] * int(random.integers(1, 4))
        elements = context.coverage.choose(slots, random)
        count = int(random.integers(max(8, len(elements)), context.max_atoms + 1))
        numbers = np.array(elements + [int(z) for z in random.choice(elements, count - len(elements))])
        atoms = _random_packing(numbers, random)
        if atoms is not None:
            yield Sample(atoms, "disordered", "-".join(map(str, sorted(elements))))


def _crystal(context: Context, *, reduced: bool = False, compound: bool = False) -> tuple[Atoms, str]:
    random = context.random
    pool = [prototype for prototype in PROTOTYPES if len(prototype.roles) > compound]
    while True:
        prototype = pool[random.integers(len(pool))]
        slots = [tuple(z for z in slot if z not in NOBLE) for slot in prototype.slots]
        crystal = build(prototype, context.coverage.choose(slots, random))
        crystal = primitive(crystal) if reduced else crystal
        if len(crystal) <= context.max_atoms:
            return crystal, prototype.name


def primitive(crystal: Atoms) -> Atoms:
    """Return the smaller cell of a face- or body-centred one, if the crystal has such translations."""
    n = len(crystal)
    scaled = crystal.get_scaled_positions()
    for matrix in (
        [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
        [[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]],
    ):
        basis = np.array(matrix)
        if not all(_maps(scaled, crystal.numbers, shift) for shift in basis):
            continue
        inside = np.mod(scaled @ np.linalg.inv(basis) + 1e-6, 1.0) - 1e-6
        keep: list[int] = []
        for i in range(n):
            if not any(_same(inside[i], inside[j]) for j in keep):
                keep.append(i)
        return Atoms(crystal.numbers[keep], scaled_positions=inside[keep], cell=basis @ crystal.cell.array, pbc=True)
    return crystal


def _maps(scaled: np.ndarray, numbers: np.ndarray, shift: np.ndarray) -> bool:
    difference = scaled[:, None] + shift - scaled[None, :]
    difference -= np.round(difference)
    close = (np.abs(difference) < 1e-4).all(axis=2) & (numbers[:, None] == numbers[None, :])
    return bool(close.any(axis=1).all())


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    difference = first - second
    return bool((np.abs(difference - np.round(difference)) < 1e-4).all())


def _group(crystal: Atoms, name: str) -> str:
    return f"{name}-{crystal.get_chemical_formula(empirical=True)}"


def _random_packing(numbers: np.ndarray, random: np.random.Generator) -> Atoms | None:
    """Return atoms in a cube, pushed apart until contacts are nearly usual ones."""
    lengths = contact_lengths()
    diameters = lengths[numbers, numbers]
    edge = float((np.sum(diameters**3) * random.uniform(0.75, 1.1)) ** (1 / 3))
    atoms = Atoms(numbers, scaled_positions=random.random((len(numbers), 3)), cell=[edge] * 3, pbc=True)
    reach = float(diameters.max())
    for _ in range(80):
        first, second, distance, vector = neighbor_list("ijdD", atoms, reach)
        wished = 0.9 * lengths[numbers[first], numbers[second]]
        short = distance < wished
        if not short.any():
            break
        push = 0.25 * (wished - distance)[short, None] * vector[short] / np.maximum(distance[short, None], 1e-3)
        np.add.at(atoms.positions, first[short], -push)
        atoms.wrap()
    first, second, distance = neighbor_list("ijd", atoms, reach)
    ratio = distance / lengths[numbers[first], numbers[second]]
    return atoms if not len(ratio) or ratio.min() > 0.75 else None
