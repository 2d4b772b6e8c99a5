"""SPICE 2: the schema of its HDF5 file, units, the sign of the gradient, charges from SMILES."""

import h5py
import numpy as np
import pytest
from recipe_tools import BOHR, HARTREE, assert_same, check_parts, problems, structures

from lam.data.recipes import get, spice2
from lam.data.recipes.base import Part
from lam.data.recipes.spice2 import smiles_charge
from lam.errors import LamError

RECIPE = get("spice2")
WATER = "[H:2][O:1][H:3]"


def _molecule(file, name, smiles, numbers, conformations, energies, gradients, *, units=True):
    group = file.create_group(name)
    group.create_dataset("subset", data=["SPICE Test Set v1.0"], dtype=h5py.string_dtype())
    group.create_dataset("smiles", data=[smiles], dtype=h5py.string_dtype())
    group.create_dataset("atomic_numbers", data=numbers, dtype=np.int16)
    values = {
        "conformations": (conformations, np.float32, "bohr"),
        "formation_energy": (np.zeros(len(energies)), np.float64, "hartree"),
        "dft_total_energy": (energies, np.float64, "hartree"),
        "dft_total_gradient": (gradients, np.float32, "hartree/bohr"),
    }
    for key, (data, dtype, unit) in values.items():
        dataset = group.create_dataset(key, data=np.array(data), dtype=dtype)
        if units:
            dataset.attrs["units"] = unit
    return group


@pytest.fixture
def path(tmp_path):
    file_path = tmp_path / "SPICE-2.0.1.hdf5"
    with h5py.File(file_path, "w") as file:
        positions = [[[0, 0, 0.5], [1.5, 0, 1.5], [-1.5, 0, 1.5]], [[0, 0, 0.25], [1.5, 0, 1.5], [-1.5, 0, 1.5]]]
        gradient = np.zeros((2, 3, 3))
        gradient[1, 0] = [0.5, -0.25, 0.0]
        _molecule(file, "water", WATER, [8, 1, 1], positions, [-76.5, -76.25], gradient)
        _molecule(
            file, "hydroxide na", "[O-:1][H:2].[Na+:3]", [8, 1, 11], positions[:1], [-238.0], gradient[:1], units=False
        )
        _molecule(file, "magnesium", "[Mg+2:1]", [12], [[[0, 0, 0]]], [-199.25], [[[0, 0, 0]]])
        _molecule(
            file, "methyl", "[C:1]([H:2])([H:3])[H:4]", [6, 1, 1, 1], np.zeros((1, 4, 3)), [-40.0], np.zeros((1, 4, 3))
        )
        del file["methyl/dft_total_gradient"]
        file["methyl/conformations"][0] = np.eye(4, 3)
    return file_path


def test_values_are_converted(path):
    found = {s.source: s for s in structures(RECIPE, path)}
    water = found["SPICE-2.0.1.hdf5/water#1"]
    np.testing.assert_array_equal(water.numbers, [8, 1, 1])
    np.testing.assert_allclose(water.positions[0], [0, 0, 0.25 * BOHR], rtol=1e-6)
    assert water.energy == pytest.approx(-76.25 * HARTREE, rel=1e-7)
    # A force is minus the gradient.
    np.testing.assert_allclose(water.forces[0], np.array([-0.5, 0.25, 0.0]) * HARTREE / BOHR, rtol=1e-6)
    assert not water.pbc.any()
    assert water.group == "water"
    assert (water.total_charge, water.spin_multiplicity) == (0, 1)


def test_charges_come_from_the_smiles(path):
    found = {s.group: s for s in structures(RECIPE, path)}
    assert found["magnesium"].total_charge == 2
    assert found["hydroxide na"].total_charge == 0
    assert found["methyl"].spin_multiplicity is None  # nine electrons: no singlet, and nothing else is stated
    assert found["methyl"].forces is None


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        (WATER, 0),
        ("[N+:1]([H:2])([H:3])([H:4])[H:5]", 1),
        ("[O-][N+](=O)[O-]", -1),
        ("[Ca++]", 2),
        ("[Mg+2:7]", 2),
        ("[13C@@H:1]", 0),
        ("[NH3+]CC(=O)[O-]", 0),
        ("[H:1]-[C:2]#[C-:3]", -1),
        ("[S--]", -2),
        ("[S-2]", -2),
    ],
)
def test_smiles_charge(smiles, charge):
    assert smiles_charge(smiles) == charge


def test_a_stored_charge_must_agree(path):
    with h5py.File(path, "a") as file:
        file["magnesium"].create_dataset("charge", data=[2.0])
    assert problems(RECIPE, path) == []
    with h5py.File(path, "a") as file:
        file["magnesium/charge"][0] = 1.0
    (message,) = problems(RECIPE, path)
    assert "magnesium" in message and "contradicts" in message


def test_parts_read_the_same(path):
    assert len(list(RECIPE.parts(path))) == 1
    check_parts(RECIPE, path, [Part(path, 0, 1), Part(path, 1, 3), Part(path, 3, 4)])


def test_blocks_read_the_same(path, monkeypatch):
    whole = structures(RECIPE, path)
    monkeypatch.setattr(spice2, "_BLOCK", 1)
    assert_same(structures(RECIPE, path), whole)


def test_units_that_are_stated_are_obeyed(path):
    with h5py.File(path, "a") as file:
        file["water/conformations"].attrs["units"] = "angstrom"
        file["magnesium/dft_total_energy"].attrs["units"] = "kcal/mol"
    found = [s for p in RECIPE.parts(path) for s in RECIPE.read(p) if not isinstance(s, LamError)]
    water = next(s for s in found if s.group == "water")
    assert water.positions[0, 2] == pytest.approx(0.5)
    (message,) = problems(RECIPE, path)
    assert "magnesium" in message and "kcal/mol" in message


def test_bad_molecules_are_named(path):
    with h5py.File(path, "a") as file:
        del file["water/dft_total_energy"]
        del file["magnesium/conformations"]
        file["magnesium/conformations"] = np.zeros((1, 3, 3))
        file["hydroxide na/dft_total_energy"][0] = np.nan
    messages = sorted(problems(RECIPE, path))
    assert len(messages) == 3
    assert "hydroxide na#0" in messages[0] and "energy is nan" in messages[0]
    assert "magnesium" in messages[1] and "(1, 3, 3) instead of (1, 1, 3)" in messages[1]
    assert "water" in messages[2] and "'dft_total_energy'" in messages[2]


def test_a_truncated_file_is_one_sentence(path):
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(LamError, match=r"Cannot read '.*SPICE-2.0.1.hdf5'.*truncated"):
        list(RECIPE.parts(path))


def test_a_folder_is_searched(path):
    assert RECIPE.find(path.parent) == [path]
