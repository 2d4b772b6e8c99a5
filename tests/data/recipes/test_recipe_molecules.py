"""Transition1x and QM7-X: nested groups, keys, groups that keep splits apart, duplicates, parts."""

import h5py
import numpy as np
import pytest
from recipe_tools import check_parts, problems, structures

from lam.data.recipes import get
from lam.data.recipes.base import Part
from lam.errors import LamError

ENERGY, FORCES = "wB97x_6-31G(d).energy", "wB97x_6-31G(d).forces"


def _path_group(group, energies, *, numbers=(6, 1, 1, 8)):
    count = len(energies)
    group["atomic_numbers"] = np.array(numbers)
    group["positions"] = np.arange(count * 12, dtype=np.float64).reshape(count, 4, 3)
    group[ENERGY] = np.array(energies)
    group[FORCES] = np.full((count, 4, 3), 0.25)


@pytest.fixture
def transition1x(tmp_path):
    path = tmp_path / "Transition1x.h5"
    with h5py.File(path, "w") as file:
        for formula, reaction in (("C1H2O1", "rxn0001"), ("C1H2O1", "rxn0002"), ("C2H2", "rxn0003")):
            group = file.create_group(f"data/{formula}/{reaction}")
            _path_group(group, [-3100.0, -3099.5, -3098.0])
            for end, energy in (("reactant", -3101.0), ("product", -3100.5), ("transition_state", -3098.0)):
                _path_group(group.create_group(end), [energy])
        file["train/C1H2O1"] = h5py.SoftLink("/data/C1H2O1")
        file["test/C2H2"] = h5py.SoftLink("/data/C2H2")
    return path


def test_transition1x_values(transition1x):
    found = structures(get("transition1x"), transition1x)
    assert [s.energy for s in found[:5]] == [-3101, -3100.5, -3100, -3099.5, -3098]
    assert len(found) == 15  # the transition state once, the split groups not again
    name = "Transition1x.h5/C1H2O1/rxn0001"
    assert [s.source for s in found[:3]] == [f"{name}/reactant#0", f"{name}/product#0", f"{name}#0"]
    np.testing.assert_array_equal(found[3].positions[0], [12, 13, 14])
    np.testing.assert_array_equal(found[3].forces, np.full((4, 3), 0.25))
    # Two reactions of one formula may share a reactant: they are one group.
    assert [s.group for s in found[::5]] == ["C1H2O1", "C1H2O1", "C2H2"]
    assert (found[0].total_charge, found[0].spin_multiplicity) == (0, 1)


def test_transition1x_parts(transition1x):
    check_parts(get("transition1x"), transition1x, [Part(transition1x, 0, 1), Part(transition1x, 1, 3)])


def test_transition1x_bad_input(transition1x):
    with h5py.File(transition1x, "a") as file:
        del file[f"data/C1H2O1/rxn0002/{FORCES}"]
        file[f"data/C1H2O1/rxn0002/{FORCES}"] = np.zeros((2, 4, 3))
        del file["data/C2H2/rxn0003/positions"]
    messages = problems(get("transition1x"), transition1x)
    assert "rxn0002" in messages[0] and "(2, 4, 3) instead of (3, 4, 3)" in messages[0]
    assert "rxn0003 has no data set 'positions'" in messages[1]
    with h5py.File(transition1x, "a") as file:
        del file["data"]
    with pytest.raises(LamError, match=r"Transition1x.h5' has no group 'data'"):
        structures(get("transition1x"), transition1x)


@pytest.fixture
def qm7x(tmp_path):
    path = tmp_path / "1000.hdf5"
    with h5py.File(path, "w") as file:
        for molecule, name in (
            ("1", "Geom-m1-i1-c1-opt"),
            ("1", "Geom-m1-i1-c1-7"),
            ("1", "Geom-m1-i2-c1-opt"),
            ("94", "Geom-m94-i1-c1-opt"),
        ):
            group = file.create_group(f"{molecule}/{name}")
            group["atNUM"] = np.array([8, 1, 1])
            group["atXYZ"] = np.array([[0, 0, 0.125], [1.0, 0, 0], [0, 1.0, 0]])
            group["ePBE0+MBD"] = np.array([-2080.5])
            group["eAT"] = np.array([-9.5])
            group["totFOR"] = np.array([[0.5, -0.5, 0], [-0.5, 0, 0], [0, 0.5, 0]])
            group["pbe0FOR"] = np.zeros((3, 3))
            group["vdwFOR"] = np.zeros((3, 3))
    return path


def test_qm7x_values(qm7x):
    found = structures(get("qm7x"), qm7x)
    assert [s.source for s in found] == ["1000.hdf5/1#0", "1000.hdf5/1#1", "1000.hdf5/1#2", "1000.hdf5/94#0"]
    assert found[0].energy == -2080.5
    np.testing.assert_array_equal(found[0].forces[0], [0.5, -0.5, 0])
    np.testing.assert_array_equal(found[0].positions[0], [0, 0, 0.125])
    assert [s.group for s in found] == ["qm7x-1"] * 3 + ["qm7x-94"]
    assert (found[0].total_charge, found[0].spin_multiplicity) == (0, 1)


def test_qm7x_duplicates_are_left_out(qm7x):
    (qm7x.parent / "DupMols.dat").write_text("Geom-m1-i1-c1-opt\n")
    # With their displaced structures; the numbers of the others stay.
    assert [s.source for s in structures(get("qm7x"), qm7x)] == ["1000.hdf5/1#2", "1000.hdf5/94#0"]


def test_qm7x_parts(qm7x):
    check_parts(get("qm7x"), qm7x, [Part(qm7x, 0, 1), Part(qm7x, 1, 2)])


def test_qm7x_bad_input(qm7x):
    with h5py.File(qm7x, "a") as file:
        del file["1/Geom-m1-i1-c1-opt/totFOR"]
        file["94/Geom-m94-i1-c1-opt/atXYZ"][0, 0] = np.nan
    messages = problems(get("qm7x"), qm7x)
    assert "1000.hdf5/1#1 (Geom-m1-i1-c1-opt) has no data set 'totFOR'" in messages[0]
    assert "1000.hdf5/94#0" in messages[1] and "NaN" in messages[1]
    qm7x.write_bytes(qm7x.read_bytes()[:2000])
    with pytest.raises(LamError, match=r"Cannot read '.*1000.hdf5'"):
        structures(get("qm7x"), qm7x)
