"""Small labelled data sets, made on the spot: crystals and dynamics by EMT, molecules and ions by GFN1-xTB."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io.extxyz import write_xyz
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from lam.data.structure import Structure


def write(data: list[Structure], path: Path) -> Path:
    """Write extended XYZ with REF_ labels, group, charge and multiplicity; return the path."""
    frames = []
    for s in data:
        atoms = s.to_atoms(prefix="REF_")
        if s.group:
            atoms.info["group"] = s.group
        frames.append(atoms)
    with path.open("w", encoding="utf-8") as file:
        write_xyz(file, frames, write_results=False)
    return path


def _labelled(atoms: Atoms, number: int, group: str = "") -> Structure:
    labels = {"REF_energy": atoms.get_potential_energy()}
    if atoms.pbc.all():
        labels["REF_stress"] = atoms.get_stress(voigt=False)
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell if atoms.pbc.any() else None, pbc=atoms.pbc)
    frame.info |= labels | {key: atoms.info[key] for key in ("total_charge", "spin_multiplicity") if key in atoms.info}
    if group:
        frame.info["group"] = group
    frame.arrays["REF_forces"] = atoms.get_forces()
    return Structure.from_atoms(frame, source=f"made#{number}")


def crystals() -> list[Structure]:
    """Return 60 independent rattled and strained cells of four metals and alloys (EMT, with stress)."""
    rng = np.random.default_rng(1)
    result = []
    for number in range(60):
        atoms = bulk(("Cu", "Al", "Ag", "Pt")[number % 4], cubic=True).repeat((2, 2, 1 + number % 2))
        if number % 4 == 0:
            atoms.symbols[::4] = "Au"
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        atoms.calc = EMT()
        result.append(_labelled(atoms, number))
    return result


def rattled() -> list[Structure]:
    """Return 40 rattled cells of copper at one volume (EMT, with stress)."""
    rng = np.random.default_rng(2)
    result = []
    for number in range(40):
        atoms = bulk("Cu", cubic=True).repeat((2, 2, 2))
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        result.append(_labelled(atoms, number))
    return result


def dynamics() -> list[Structure]:
    """Return 100 frames of molten and solid aluminium, every fifth step (EMT, with stress)."""
    result = []
    for temperature in (600, 1500):
        atoms = bulk("Al", cubic=True).repeat((2, 2, 2))
        atoms.calc = EMT()
        rng = np.random.default_rng(temperature)
        MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
        run = Langevin(atoms, 4 * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng)
        for _ in range(50):
            run.run(5)
            result.append(_labelled(atoms, len(result), f"{temperature}K"))
    return result


def _xtb(atoms: Atoms, charge: int = 0, multiplicity: int = 1) -> Atoms:
    from tblite.ase import TBLite

    atoms.calc = TBLite(method="GFN1-xTB", charge=charge, multiplicity=multiplicity, verbosity=0)
    return atoms


MOLECULES = (
    "CH4 NH3 H2O C2H6 C2H4 C2H2 CH3OH H2CO H3CNH2 HCN C6H6 CH3CHO HCOOH CH3CH2OH CH3CN C4H4O C3H8 CH3SH H2O2 N2H4 "
    "C5H5N CH3COOH C3H6_D3h CH3Cl CH3CONH2"
)


def molecules() -> list[Structure]:
    """Return 100 rattled molecules of 25 formulas (GFN1-xTB)."""
    names = MOLECULES.split()
    rng = np.random.default_rng(3)
    result = []
    for number in range(100):
        atoms = molecule(names[number % len(names)])
        atoms.positions += rng.normal(scale=0.06, size=atoms.positions.shape)
        result.append(_labelled(_xtb(atoms), number))
    return result


def one_molecule() -> list[Structure]:
    """Return 60 snapshots of ethanol, rattled and turned (GFN1-xTB)."""
    rng = np.random.default_rng(4)
    result = []
    for number in range(60):
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        atoms.rotate(rng.uniform(0, 360), rng.normal(size=3))
        result.append(_labelled(_xtb(atoms), number))
    return result


KINDS = (("NH3", 1), ("H2O", 1), ("CH3OH", -1), ("H3CNH2", 1), ("HCOOH", -1), ("CH4", 0))


def ions() -> list[Structure]:
    """Return 60 rattled ions and neutral molecules with their charges (GFN1-xTB)."""
    rng = np.random.default_rng(5)
    result = []
    for number in range(60):
        name, charge = KINDS[number % len(KINDS)]
        atoms = molecule(name)
        heavy = int(np.argmax(atoms.numbers))
        if charge > 0:  # a proton where there is room
            away = atoms.positions[heavy] - np.delete(atoms.positions, heavy, 0).mean(axis=0)
            atoms += Atoms("H", [atoms.positions[heavy] + away / np.linalg.norm(away)])
        elif charge < 0:  # the proton of the hydroxyl group
            bonded = atoms.get_all_distances()
            bonded[:, atoms.numbers != 8] = 9.0
            bonded[atoms.numbers != 1] = 9.0
            del atoms[int(np.argmin(bonded.min(axis=1)))]
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.info |= {"total_charge": charge, "spin_multiplicity": 1}
        result.append(_labelled(_xtb(atoms, charge), number))
    return result


SETS: dict[str, Callable[[], list[Structure]]] = {"crystals": crystals, "rattled": rattled, "dynamics": dynamics}
if find_spec("tblite"):
    SETS |= {"molecules": molecules, "one molecule": one_molecule, "ions": ions}
