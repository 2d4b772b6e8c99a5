"""Clusters of one to five elements, cut from crystals or packed at random, bare and with adsorbates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from lam.corpus.context import Context, direction, rattled, rotation, strained
from lam.corpus.elements import ALL, NOBLE, contact_lengths
from lam.corpus.embed import embed
from lam.corpus.graph import parse, words
from lam.corpus.prototypes import PROTOTYPES, ROLES, build
from lam.corpus.sample import Sample

ADSORBATES = words("""
[H] [HH] O [OH] [O] [O]=[O] [C-]#[O+] O=C=O C N N#N [N]=O C=C C#C CO C=O [OH]C=O S O=S=O [CH3] [NH2] [F] [Cl]
C=CC CN c1ccccc1 CC [SH] [PH3] [SiH4] ClC(Cl)Cl C#N
""")
TREATMENTS = ("rattled", "strained", "compressed", "expanded", "vacancy")


def clusters(context: Context) -> Iterator[Sample]:
    """Yield clusters of planned elements, cut from prototypes or packed, each treated in some ways."""
    random = context.random
    while True:
        if random.random() < 0.35:
            count = int(random.choice([1, 2, 3, 4, 5], p=[0.1, 0.25, 0.25, 0.2, 0.2]))
            elements = context.coverage.choose([ALL] * count, random)
            base, kind = _packed(elements, _size(context), random), "packed"
        else:
            base, kind = _cut(context)
        if base is None or len(base) < 2:
            continue
        charge = int(random.choice([0, 0, 0, 0, 0, 0, 0, 0, 1, -1]))
        for _ in range(int(random.integers(1, context.copies + 1))):
            how = str(random.choice(TREATMENTS))
            atoms = _treated(base, how, random)
            yield Sample(atoms, f"{kind}/{how}", base.get_chemical_formula(), charge)


def adsorbed(context: Context) -> Iterator[Sample]:
    """Yield clusters with one to three small molecules at their surface."""
    random = context.random
    while True:
        base, kind = _cut(context)
        if base is None or len(base) < 3:
            continue
        base = _treated(base, "rattled", random)
        for _ in range(int(random.integers(1, context.copies + 1))):
            atoms, name = base, ""
            for _ in range(int(random.choice([1, 1, 2, 3]))):
                name = ADSORBATES[random.integers(len(ADSORBATES))]
                atoms = _with_adsorbate(atoms, name, random) or atoms
            if len(atoms) > len(base):
                yield Sample(atoms, f"adsorbed/{kind}", base.get_chemical_formula())


def _size(context: Context) -> int:
    """Return a number of atoms from 3 to 0.7 of what is allowed, small ones more often.

    The time of a calculation grows with the third power of the size, so that few large ones take most of it.
    """
    largest = np.log(0.7 * context.max_atoms / 3)
    return round(float(3 * np.exp(largest * context.random.random() ** 2)))


def _cut(context: Context) -> tuple[Atoms | None, str]:
    """Return a cluster of a prototype with planned elements, maybe as a solid solution, and its name."""
    random = context.random
    prototype = PROTOTYPES[random.integers(len(PROTOTYPES))]
    slots = [tuple(z for z in slot if z not in NOBLE or random.random() < 0.2) for slot in prototype.slots]
    mixed = random.random() < 0.35
    extra = int(random.integers(1, 3)) if mixed else 0
    places = [int(i) for i in random.integers(len(slots), size=extra)]
    roles = [ROLES["m"] if prototype.roles[i] == "e" else slots[i] for i in places]
    elements = context.coverage.choose([*slots, *roles], random, repeat=False)
    crystal = build(prototype, elements[: len(slots)])
    target = _size(context)
    if target < 2 * len(elements):  # room for every kind
        target = min(2 * len(elements), context.max_atoms)
    cluster = _carved(crystal, target, random)
    for place, z in zip(places, elements[len(slots) :], strict=True):
        same = cluster.numbers == elements[place]
        swap = same & (random.random(len(cluster)) < 0.5)
        cluster.numbers[swap] = z
    if mixed:  # what was swapped may be larger
        cluster.positions *= max(1.0, _crowding(cluster))
    return cluster, prototype.name + ("-mixed" if mixed else "")


def _carved(crystal: Atoms, target: int, random: np.random.Generator) -> Atoms:
    """Return the ``target`` atoms of the crystal nearest to a random point, in a round or flattened sense."""
    density = len(crystal) / crystal.get_volume()
    radius = 1.6 * (3 * target / (4 * np.pi * density)) ** (1 / 3) + 2.0
    inverse = np.linalg.norm(np.linalg.inv(crystal.cell.array), axis=0)  # one over the widths
    times = np.ceil(2 * radius * inverse).astype(int)
    block = crystal.repeat(tuple(int(t) for t in np.minimum(times, 12)))
    centre = np.full(3, 0.5) @ block.cell.array + random.uniform(-0.5, 0.5, 3) @ crystal.cell.array
    axes = np.exp(random.normal(scale=0.2, size=3)) if random.random() < 0.5 else np.ones(3)
    vectors = ((block.positions - centre) @ rotation(random)) * axes
    nearest = np.argsort(np.round(np.linalg.norm(vectors, axis=1), 6), kind="stable")[:target]
    return Atoms(block.numbers[nearest], block.positions[nearest] - centre)


def _packed(elements: list[int], size: int, random: np.random.Generator) -> Atoms | None:
    """Return atoms put one after the other in contact with those before, every element at least once."""
    size = max(size, len(elements))
    fractions = random.dirichlet(np.full(len(elements), 2.0))
    numbers = list(elements) + [int(z) for z in random.choice(elements, size - len(elements), p=fractions)]
    numbers = [numbers[i] for i in random.permutation(size)]
    lengths = contact_lengths()
    positions = np.zeros((1, 3))
    for count in range(1, size):
        usual = lengths[numbers[count], numbers[:count]]
        best, place = np.inf, None
        for _ in range(30):
            host = random.integers(count)
            trial = positions[host] + direction(random) * usual[host] * random.uniform(0.95, 1.1)
            ratio = (np.linalg.norm(positions - trial, axis=1) / usual).min()
            reach = float(np.linalg.norm(trial - positions.mean(axis=0)))
            if ratio > 0.88 and reach < best:
                best, place = reach, trial
        if place is None:
            return None
        positions = np.vstack([positions, place])
    return Atoms(numbers, positions)


def _crowding(atoms: Atoms) -> float:
    """Return by how much the cluster must grow so that no contact is shorter than 0.85 of a usual one."""
    rows, columns = np.triu_indices(len(atoms), 1)
    distance = np.linalg.norm(atoms.positions[rows] - atoms.positions[columns], axis=1)
    return float((0.85 * contact_lengths()[atoms.numbers[rows], atoms.numbers[columns]] / distance).max())


def _treated(atoms: Atoms, how: str, random: np.random.Generator) -> Atoms:
    if how == "vacancy" and len(atoms) > 4:
        atoms = atoms.copy()
        del atoms[int(random.integers(len(atoms)))]
    if how == "strained":
        atoms = strained(atoms, 0.04, random)
    elif how in ("compressed", "expanded"):
        atoms = strained(atoms, 0.01, random, volume=random.uniform(0.75, 0.95) if how == "compressed"
                         else random.uniform(1.05, 1.35))  # fmt: skip
    sigma = float(random.choice([0.02, 0.06, 0.12, 0.2] if how == "rattled" else [0.02, 0.06]))
    return rattled(atoms, sigma, random)


def _with_adsorbate(base: Atoms, name: str, random: np.random.Generator) -> Atoms | None:
    """Return the cluster with a molecule outside of a random surface atom, or ``None`` if there is no room."""
    graph = parse(name)
    places = embed(graph, random)
    if places is None:
        return None
    numbers = np.array(graph.numbers)
    foot = int(random.integers(len(numbers)))
    for _ in range(20):
        turned = (places - places[foot]) @ rotation(random)
        host = int(random.integers(len(base)))
        outward = base.positions[host] - base.positions.mean(axis=0) + 0.5 * random.normal(size=3)
        outward /= np.linalg.norm(outward)
        length = covalent_radii[numbers[foot]] + covalent_radii[base.numbers[host]]
        moved = turned + base.positions[host] + outward * length * random.uniform(0.95, 1.6)
        distance = np.linalg.norm(moved[:, None] - base.positions[None, :], axis=2)
        if (distance / (covalent_radii[numbers][:, None] + covalent_radii[base.numbers][None, :])).min() > 0.9:
            return Atoms(np.concatenate([base.numbers, numbers]), np.vstack([base.positions, moved]))
    return None
