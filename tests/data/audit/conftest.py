"""Data sets that are right, made here: a crystal trajectory (EMT) and molecules (springs between all atoms)."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from lam.data.audit import Auditor
from lam.data.audit.scales import all_electron_energies
from lam.data.structure import Structure

STIFFNESS = 12.0  # eV/A^2


def _crystals():
    """120 frames of Cu-Au: small moves of the atoms, then of the cell, too; labels by EMT."""
    rng = np.random.default_rng(3)
    frames = []
    for run, symbols in enumerate(("Cu3Au", "CuAu3", "Cu2Au2", "CuAuCuAu")):
        atoms = bulk("Cu", cubic=True, a=3.85)
        atoms.symbols = symbols
        atoms = atoms * (2, 1, 1)
        cell = atoms.cell.array.copy()
        atoms.rattle(0.08, seed=run)
        for step in range(30):
            atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
            if step % 2:
                strain = rng.normal(scale=0.008, size=(3, 3))
                atoms.set_cell(cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
            atoms.calc = EMT()
            frames.append(
                Structure.from_atoms(
                    _labelled(atoms), source=f"crystals.extxyz#{len(frames)}", group=f"run{run}-{step // 10}"
                )
            )
    return frames


def _labelled(atoms):
    result = atoms.copy()
    result.info["energy"] = atoms.get_potential_energy()
    result.info["stress"] = atoms.get_stress()
    result.arrays["forces"] = atoms.get_forces()
    return result


def springs(positions, rest):
    """Energy (eV) and forces of springs between all atoms, whose lengths at rest are ``rest`` (N, N)."""
    vectors = positions[:, None] - positions[None, :]
    lengths = np.linalg.norm(vectors, axis=-1) + np.eye(len(positions))
    stretch = (lengths - rest - np.eye(len(positions))) * (1 - np.eye(len(positions)))
    energy = 0.25 * STIFFNESS * (stretch**2).sum()
    return energy, -STIFFNESS * (stretch / lengths)[..., None].repeat(3, -1).__mul__(vectors).sum(axis=1)


def make_molecules(names=("CH3CH2OH", "C2H6", "CH3OH", "NH3", "C6H6"), count=40, seed=0, scale=0.05, **fields):
    """Return distorted molecules, turned at random, with total energies like those of all electrons."""
    rng = np.random.default_rng(seed)
    frames = []
    for name in names:
        atoms = molecule(name)
        rest = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=-1)
        zero = float(all_electron_energies(atoms.numbers).sum()) * 1.003 - 1.1 * len(atoms)
        for _ in range(count):
            positions = atoms.positions + rng.normal(scale=scale, size=atoms.positions.shape)
            turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            turn[:, 0] *= np.linalg.det(turn)
            positions = positions @ turn
            energy, forces = springs(positions, rest)
            values = {"group": name, "source": f"molecules.extxyz#{len(frames)}"} | fields
            frames.append(
                Structure(
                    numbers=atoms.numbers,
                    positions=positions,
                    cell=np.zeros((3, 3)),
                    pbc=False,
                    energy=zero + energy,
                    forces=forces,
                    **values,
                )
            )
    return frames


_CRYSTALS = _crystals()
_MOLECULES = make_molecules()


@pytest.fixture
def crystals():
    """Return a right trajectory of periodic cells with energies, forces, stress."""
    return list(_CRYSTALS)


@pytest.fixture
def molecules():
    """Return right molecules with energies and forces."""
    return list(_MOLECULES)


@pytest.fixture
def more_molecules():
    """Return the factory of molecules."""
    return make_molecules


@pytest.fixture
def findings_of():
    """Return a function that audits structures."""

    def audit(structures, **options):
        auditor = Auditor(**options)
        for structure in structures:
            auditor.update(structure)
        return auditor.findings()

    return audit


@pytest.fixture
def crystal_of_symmetry():
    """Perfect crystals over volumes: forces vanish by symmetry."""
    frames = []
    for number, scale in enumerate(np.linspace(0.94, 1.06, 13)):
        atoms = bulk("Cu", cubic=True)
        atoms.symbols = ("Cu4", "Cu3Au")[number % 2]
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.calc = EMT()
        labelled = _labelled(atoms)
        labelled.arrays["forces"] = np.zeros((4, 3))
        frames.append(Structure.from_atoms(labelled, source=f"eos.extxyz#{number}"))
    return frames
