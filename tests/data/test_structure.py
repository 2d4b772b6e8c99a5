"""The validated door: what a structure may be, and where its labels are found."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from lam.data.dialects import read_charge_and_spin
from lam.data.structure import Structure
from lam.errors import LamError

FORCES = np.arange(9.0).reshape(3, 3)
STRESS = np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]]) / 100
VOIGT = np.array([1.0, 2.0, 3.0, 0.4, 0.5, 0.6]) / 100


@pytest.fixture
def boxed(water):
    water.set_cell([4.0, 5.0, 6.0])
    water.pbc = True
    return water


def test_labels_from_reference_names(boxed):
    boxed.info.update(REF_energy=-3.0, REF_stress=STRESS)
    boxed.arrays["REF_forces"] = FORCES
    structure = Structure.from_atoms(boxed)
    assert structure.energy == -3.0
    np.testing.assert_array_equal(structure.forces, FORCES)
    np.testing.assert_allclose(structure.stress, STRESS)


def test_labels_from_plain_names(boxed):
    boxed.info.update(energy=-3.0, stress=VOIGT)
    boxed.arrays["forces"] = FORCES
    structure = Structure.from_atoms(boxed)
    assert structure.energy == -3.0
    np.testing.assert_array_equal(structure.forces, FORCES)
    np.testing.assert_allclose(structure.stress, STRESS)


def test_labels_from_calculator_results(boxed):
    boxed.calc = SinglePointCalculator(boxed, energy=-3.0, forces=FORCES, stress=VOIGT)
    structure = Structure.from_atoms(boxed)
    assert structure.energy == -3.0
    np.testing.assert_array_equal(structure.forces, FORCES)
    np.testing.assert_allclose(structure.stress, STRESS)


def test_reference_names_win(boxed):
    boxed.info.update(REF_energy=-3.0, energy=-1.0)
    boxed.arrays["REF_forces"] = FORCES
    boxed.calc = SinglePointCalculator(boxed, energy=-2.0, forces=FORCES + 1)
    structure = Structure.from_atoms(boxed)
    assert structure.energy == -3.0
    np.testing.assert_array_equal(structure.forces, FORCES)


def test_free_energy_goes_before_energy(boxed):
    boxed.calc = SinglePointCalculator(boxed, energy=-2.0, free_energy=-2.5)
    assert Structure.from_atoms(boxed).energy == -2.5


@pytest.mark.parametrize("key", ["REF_virials", "REF_virial", "virials", "virial"])
@pytest.mark.parametrize("shape", [(3, 3), (9,)])
def test_virial_is_minus_volume_times_stress(boxed, key, shape):
    boxed.info[key] = (-120.0 * STRESS).reshape(shape)
    np.testing.assert_allclose(Structure.from_atoms(boxed).stress, STRESS)


def test_reference_virial_wins_over_plain_stress(boxed):
    boxed.info.update(REF_virials=-120.0 * STRESS, stress=10 * STRESS)
    np.testing.assert_allclose(Structure.from_atoms(boxed).stress, STRESS)


def test_missing_labels_are_none(water):
    structure = Structure.from_atoms(water)
    assert structure.energy is None and structure.forces is None and structure.stress is None
    assert structure.total_charge is None and structure.spin_multiplicity is None


def test_zero_labels_are_labels(boxed):
    boxed.info.update(energy=0.0, stress=np.zeros(6))
    boxed.arrays["forces"] = np.zeros((3, 3))
    structure = Structure.from_atoms(boxed)
    assert structure.energy == 0.0
    assert not structure.forces.any() and not structure.stress.any()


def test_stress_of_a_slab_is_left_out(boxed):
    boxed.pbc = (True, True, False)
    boxed.info["stress"] = VOIGT
    assert Structure.from_atoms(boxed).stress is None


def test_group_from_info_then_config_type_then_formula(water):
    assert Structure.from_atoms(water).group == "H2O"
    water.info["config_type"] = "md"
    assert Structure.from_atoms(water).group == "md"
    water.info["group"] = "run-7"
    assert Structure.from_atoms(water).group == "run-7"


def test_isolated_atoms_are_recognised():
    atom = Atoms("He", cell=[20, 20, 20], pbc=True, info={"config_type": "IsolatedAtom", "group": "x"})
    assert Structure.from_atoms(atom).isolated_atom
    assert Structure.from_atoms(Atoms("He")).isolated_atom
    assert not Structure.from_atoms(Atoms("He2", positions=[[0, 0, 0], [0, 0, 2]])).isolated_atom


@pytest.mark.parametrize("prefix", [None, "REF_"])
def test_to_atoms_and_back(crystal, prefix):
    before = crystal(3, total_charge=-1.0, spin_multiplicity=2.0)
    after = Structure.from_atoms(before.to_atoms(prefix=prefix))
    assert (after.energy, after.group) == (before.energy, before.group)
    assert (after.total_charge, after.spin_multiplicity) == (-1.0, 2.0)
    np.testing.assert_array_equal(after.forces, before.forces)
    np.testing.assert_allclose(after.stress, before.stress)


def test_the_users_atoms_are_not_changed(boxed):
    boxed.info.update(REF_energy=-3.0, charge=1)
    info, arrays = dict(boxed.info), set(boxed.arrays)
    Structure.from_atoms(boxed)
    assert boxed.info == info and set(boxed.arrays) == arrays


def _break(atoms, what):
    match what:
        case "nan energy":
            atoms.info["energy"] = np.nan
        case "text energy":
            atoms.info["energy"] = "none"
        case "absurd energy":
            atoms.info["energy"] = -1e8
        case "nan force":
            atoms.arrays["forces"] = np.full((3, 3), np.nan)
        case "absurd force":
            atoms.arrays["forces"] = np.full((3, 3), 1e5)
        case "force shape":
            atoms.arrays["REF_forces"] = np.zeros((3, 2))
        case "stress shape":
            atoms.info["stress"] = np.zeros(4)
        case "absurd stress":
            atoms.info["stress"] = np.full(6, 1e4)
        case "nan position":
            atoms.positions[0, 0] = np.nan
        case "zero cell":
            atoms.set_cell(np.zeros((3, 3)))
        case "flat cell":
            atoms.set_cell([[1, 0, 0], [2, 0, 0], [0, 0, 1]])
        case "no atoms":
            del atoms[:]
        case "dummy atom":
            atoms.numbers[0] = 0
        case "unknown element":
            atoms.numbers[0] = 119


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan energy", "energy is nan"),
        ("text energy", "not a number"),
        ("absurd energy", "absurd"),
        ("nan force", "NaN"),
        ("absurd force", "absurd"),
        ("force shape", r"\(3, 2\) instead of \(3, 3\)"),
        ("stress shape", "Voigt"),
        ("absurd stress", "GPa"),
        ("nan position", "NaN"),
        ("zero cell", "zero length"),
        ("flat cell", "linearly dependent"),
        ("no atoms", "no atoms"),
        ("dummy atom", "unknown element"),
        ("unknown element", "119"),
    ],
)
def test_bad_structures_are_refused_by_name(boxed, what, words):
    _break(boxed, what)
    with pytest.raises(LamError, match=words) as raised:
        Structure.from_atoms(boxed, source="file.extxyz#7")
    assert "file.extxyz#7" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, (None, None)),
        ({"charge": -1, "spin": 2}, (-1.0, 2.0)),
        ({"total_charge": 1.0, "spin_multiplicity": 3}, (1.0, 3.0)),
        ({"total_charge": np.array([2]), "total_spin": np.float32(1)}, (2.0, 1.0)),
        ({"charge": 0, "spin": 0}, (0.0, None)),
        ({"charge": 1, "total_charge": 1.0}, (1.0, None)),
        ({"charge": None}, (None, None)),
    ],
)
def test_three_dialects_of_charge_and_spin(info, expected):
    assert read_charge_and_spin(info) == expected


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"charge": 1, "total_charge": 0}, "contradicts itself"),
        ({"spin": 2, "spin_multiplicity": 1}, "contradicts itself"),
        ({"spin_multiplicity": 0}, "at least 1"),
        ({"charge": "one"}, "not a number"),
        ({"charge": float("nan")}, "not finite"),
        ({"charge": 1e9}, "absurd"),
    ],
)
def test_bad_charge_and_spin_are_refused(info, words):
    with pytest.raises(LamError, match=words):
        read_charge_and_spin(info, where="x#1")


def test_numbers_of_numpy_become_plain_floats():
    made = Structure(
        numbers=[8],
        positions=np.zeros((1, 3)),
        cell=np.zeros((3, 3)),
        pbc=False,
        total_charge=np.int64(-1),
        spin_multiplicity=np.int32(2),
        energy=np.float32(1.5),
    )
    assert [type(value) for value in (made.total_charge, made.spin_multiplicity, made.energy)] == [float] * 3
    assert (made.total_charge, made.spin_multiplicity, made.energy) == (-1.0, 2.0, 1.5)
