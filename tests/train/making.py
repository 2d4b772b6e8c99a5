"""Small labelled structures and an architecture to learn them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.cluster import Icosahedron

from lam.data.shards import ShardWriter
from lam.data.structure import Structure

TINY = {
    "cutoff": 4.0, "l_max": 1, "channels": 8, "scalar_channels": 8, "sender_channels": 4,
    "radial_functions": 4, "readout_channels": 8,
}  # fmt: skip


def crystals(count: int, seed: int = 0, *, metals=("Cu", "Al"), rattle: float = 0.15) -> list[Atoms]:
    """Return rattled crystals with EMT energy, forces and stress."""
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        atoms = bulk(metals[index % len(metals)], cubic=True)
        atoms.set_cell(atoms.cell.array * (1 + rng.normal(scale=0.02)), scale_atoms=True)
        atoms.positions += rng.normal(scale=rattle, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        made.append(atoms)
    return made


def clusters(count: int, seed: int = 1) -> list[Atoms]:
    """Return rattled pieces of an argon cluster with Lennard-Jones energy and forces, without stress."""
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        atoms = Icosahedron("Ar", 2, 5.4)[: 5 + index % 4]
        atoms.positions += rng.normal(scale=0.15, size=atoms.positions.shape)
        atoms.calc = LennardJones(sigma=3.2, epsilon=0.05, rc=10.0)
        atoms.get_forces()
        made.append(atoms)
    return made


def write_shard(path: Path, frames: list[Atoms]) -> None:
    """Write frames, each a group of its own."""
    with ShardWriter(path) as writer:
        for index, atoms in enumerate(frames):
            writer.append(Structure.from_atoms(atoms, source=f"{path.stem}.extxyz#{index}", group=f"g{index}"))


def shifted(atoms: Atoms) -> Atoms:
    """Return the atoms with labels of a level of theory whose energies differ by 100 eV per atom."""
    copy = atoms.copy()
    copy.info["REF_energy"] = atoms.get_potential_energy() - 100.0 * len(atoms)
    copy.arrays["REF_forces"] = atoms.get_forces()
    copy.info["REF_stress"] = atoms.get_stress(voigt=False)
    return copy
