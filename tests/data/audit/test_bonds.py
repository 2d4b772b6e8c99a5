"""What bonds tell of labels where no two structures are alike: sign, unit, order of forces, stress and energies."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from lam.data.audit.bonds import find_bonds, measure, modelled, rank_correlation
from lam.data.audit.units import Units, explain, force_units_near
from lam.data.structure import Structure

HARTREE, BOHR, KCAL, KJ, GPA = 27.211386, 0.529177, 23.060548, 96.485332, 160.21766


def snapshots(count=36, scale=0.1, seed=2):
    """Independent rattled cells of copper at one volume, labels by EMT."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        atoms = bulk("Cu", cubic=True).repeat((2, 2, 2))
        atoms.positions += rng.normal(scale=scale, size=atoms.positions.shape)
        atoms.calc = EMT()
        frames.append(
            Structure(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=True,
                energy=atoms.get_potential_energy(),
                forces=atoms.get_forces(),
                stress=atoms.get_stress(voigt=False),
                source=f"snapshots.extxyz#{number}",
            )
        )
    return frames


_SNAPSHOTS = snapshots()


def said(findings):
    return "\n".join(f"{f.kind}: {f.message}" for f in findings if f.suspicious)


def test_right_snapshots_stay_clean(findings_of):
    assert said(findings_of(_SNAPSHOTS)) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"forces": -s.forces}, "the forces have the wrong sign"),
        (lambda s: {"forces": s.forces * BOHR / HARTREE}, "look like Hartree/Bohr"),
        (lambda s: {"forces": s.forces * KCAL}, "look like kcal/mol/Angstrom"),
        (lambda s: {"forces": s.forces * KJ}, "look like kJ/mol/Angstrom"),
        (lambda s: {"energy": s.energy / HARTREE}, "look like Hartree"),
        (lambda s: {"energy": s.energy * KCAL}, "look like kcal/mol"),
        (lambda s: {"energy": s.energy / len(s)}, "energies per atom"),
        (lambda s: {"energy": -s.energy}, "the energies have the wrong sign"),
        (lambda s: {"stress": -s.stress}, "the stress has the wrong sign"),
        (lambda s: {"stress": s.stress * s.volume}, "look.* like a virial"),
        (lambda s: {"stress": s.stress * GPA}, "GPa"),
    ],
)
def test_mistakes_of_all_snapshots_are_named(findings_of, change, words):
    assert re.search(words, said(findings_of([replace(s, **change(s)) for s in _SNAPSHOTS])))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"forces": -s.forces}, "forces: 7 structure.s. have forces of the wrong sign: .*#3"),
        (lambda s: {"forces": s.forces * BOHR / HARTREE}, "forces: 7 .*probably in Hartree/Bohr: .*#3"),
        (lambda s: {"forces": s.forces * KCAL}, "forces: 7 .*probably in kcal/mol/Angstrom: .*#3"),
        (lambda s: {"stress": s.stress * 10 * GPA}, "7 structure.s. have pressures above 481 GPa"),
        (lambda s: {"energy": s.energy + 1.0 * len(s)}, "theory|outliers"),
    ],
)
def test_mistakes_of_a_part_name_the_structures(findings_of, change, words):
    frames = [replace(s, **change(s)) if k % 5 == 3 else s for k, s in enumerate(_SNAPSHOTS)]
    assert re.search(words, said(findings_of(frames)))


def test_forces_of_another_order_or_frame_are_found(findings_of):
    rng = np.random.default_rng(0)
    mixed = [replace(s, forces=s.forces[rng.permutation(len(s))]) for s in _SNAPSHOTS]
    assert "another order of the atoms" in said(findings_of(mixed))
    shifted = [replace(s, forces=t.forces) for s, t in pairwise(_SNAPSHOTS)]
    assert "fit the bonds of the frame after" in said(findings_of(shifted))


def test_a_wrong_sign_that_all_bonds_agree_on_can_be_fixed(findings_of):
    findings = findings_of([replace(s, forces=-s.forces) for s in _SNAPSHOTS])
    assert [f.repair.factor for f in findings if f.repair is not None and f.repair.label == "forces"] == [-1.0]
    scaled = findings_of([replace(s, forces=s.forces * BOHR / HARTREE) for s in _SNAPSHOTS])
    assert not any(f.repair is not None and f.repair.what == "scale" for f in scaled)  # the factor is not certain


def test_energies_of_the_next_frame_are_found(crystals, findings_of):
    shifted = [replace(s, energy=t.energy) for s, t in pairwise(crystals)]
    assert "fits the energies one frame earlier" in said(findings_of(shifted))


def test_stress_of_another_order_is_found(findings_of):
    rng = np.random.default_rng(1)
    frames = []
    for s in _SNAPSHOTS:  # sheared, so that the shear stress is not all noise
        strain = np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))
        atoms = s.to_atoms()
        atoms.set_cell(s.cell @ strain, scale_atoms=True)
        atoms.calc = EMT()
        stress = atoms.get_stress(voigt=False)
        stress = stress[np.ix_([1, 2, 0], [1, 2, 0])] * ~np.eye(3, dtype=bool) + np.diag(np.diag(stress))
        frames.append(replace(s, positions=atoms.positions, cell=atoms.cell.array, stress=stress, forces=None))
    assert "shear components of the stress are in another order" in said(findings_of(frames))


def test_a_stretched_dimer_pulls():
    springs = measure(
        (number, Structure(numbers=[1, 1], positions=[[0, 0, 0], [0, 0, d]], cell=np.zeros((3, 3)), pbc=False,
                           forces=[[0, 0, 30 * (d - 0.72)], [0, 0, -30 * (d - 0.72)]]))
        for number, d in enumerate(np.linspace(0.68, 0.76, 80))
    )  # fmt: skip
    (kind,) = springs.kinds.values()
    assert kind.correlation == pytest.approx(-1.0)
    assert kind.slope == pytest.approx(30.0, rel=0.01)
    stretched = modelled(springs.of[79], springs.kinds)
    assert stretched.forces[0, 2] > 0 > stretched.forces[1, 2]
    assert stretched.stress[2, 2] > 0
    assert stretched.energy > 0


def test_bonds_count_each_pair_once_and_images_of_small_cells():
    atoms = bulk("Cu", cubic=True)
    cell = Structure(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=True)
    bonds = find_bonds(cell)
    assert len(bonds.kind) == 4 * 12 / 2
    assert np.linalg.norm(bonds.direction, axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("slope", "ruler", "correlation", "units"),
    [
        (1.0, 1.3 * KCAL, -0.8, Units("kcal/mol", "kcal/mol/Angstrom")),
        (1.8897, 1.0 * BOHR / HARTREE, -0.8, Units("Hartree", "Hartree/Bohr")),
        (1.8897, 0.8, -0.8, Units("eV", "eV/Bohr")),
        (1 / HARTREE, 1.3, -0.8, Units("Hartree", "eV/Angstrom")),
        (-HARTREE / BOHR, 1.3 * BOHR / HARTREE, 0.8, Units("eV", "Hartree/Bohr", 1, -1)),
        (-1.0, 1.3, -0.8, Units("eV", "eV/Angstrom", -1, 1)),
        (-1.0, 1.3, 0.8, Units("eV", "eV/Angstrom", 1, -1)),
        (7.0, 1.3, -0.8, None),
        (1.0, float("nan"), -0.8, None),
    ],
)
def test_units_are_explained_by_slope_and_bonds_together(slope, ruler, correlation, units):
    assert explain(slope, ruler, correlation) == units


def test_energies_per_atom_of_several_sizes(molecules, findings_of):
    assert "energies per atom" not in said(findings_of(molecules))
    assert "energies per atom" in said(findings_of([replace(s, energy=s.energy / len(s)) for s in molecules]))


def test_units_of_forces_near_a_ruler():
    assert (
        force_units_near(1.2) == force_units_near(4.0) == force_units_near(0.4) == force_units_near(float("nan")) == []
    )
    assert force_units_near(1.3 * KCAL)[0] == "kcal/mol/Angstrom"
    assert "Hartree/Bohr" in force_units_near(1.3 * BOHR / HARTREE)


def test_rank_correlation():
    x = np.arange(10.0)
    assert rank_correlation(x, x**3) == pytest.approx(1.0)
    assert rank_correlation(x, -np.exp(x)) == pytest.approx(-1.0)
    assert rank_correlation(x, np.ones(10)) == 0.0


def test_impossibly_dense_cells_are_named_and_take_no_time(findings_of):
    tiny = [replace(s, positions=s.positions / 10, cell=s.cell / 10) for s in _SNAPSHOTS[:10]]
    assert "are the positions in nm" in said(findings_of(tiny))
