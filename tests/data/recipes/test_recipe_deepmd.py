"""DeePMD systems: plain, mixed type, HDF5; sign of the virial, cells, charge and spin, parts, bad folders."""

import h5py
import numpy as np
import pytest
from recipe_tools import check_parts, problems, structures

from lam.data.recipes import deepmd as module
from lam.data.recipes import detect, get
from lam.data.recipes.base import Part
from lam.errors import LamError, LamWarning

CELL = np.diag([2.0, 4.0, 5.0])  # volume 40


def _arrays(first, count, *, atoms=3):
    coord = np.arange(count * atoms * 3, dtype=np.float64).reshape(count, -1) / 16 + first
    force = np.zeros((count, atoms, 3))
    force[:, 1] = [0.5, -1.0, 0.25]
    virial = np.tile(np.array([4.0, 0, 0.8, 0, -2.0, 0, 0.8, 0, 0]), (count, 1))
    return {
        "coord": coord,
        "box": np.tile(CELL.reshape(9), (count, 1)),
        "energy": -100.0 - first - np.arange(count),
        "force": force.reshape(count, -1),
        "virial": virial,
    }


def _folder(path, sets, *, types=(0, 1, 1), elements=("O", "H"), nopbc=False):
    path.mkdir(parents=True)
    (path / "type.raw").write_text("\n".join(map(str, types)) + "\n")
    (path / "type_map.raw").write_text("\n".join(elements) + "\n")
    if nopbc:
        (path / "nopbc").touch()
    for number, arrays in enumerate(sets):
        folder = path / f"set.{number:03d}"
        folder.mkdir()
        for key, values in arrays.items():
            np.save(folder / f"{key}.npy", values)
    return path


@pytest.fixture
def folder(tmp_path):
    return _folder(tmp_path / "water" / "data.0", [_arrays(0, 2), _arrays(2, 3)])


def test_values(folder):
    found = structures(get("deepmd"), folder)
    assert len(found) == 5
    third = found[2]
    np.testing.assert_array_equal(third.numbers, [8, 1, 1])
    np.testing.assert_array_equal(third.positions[0], 2 + np.arange(3) / 16)
    np.testing.assert_array_equal(third.cell, CELL)
    assert third.pbc.all()
    assert third.energy == -102
    np.testing.assert_array_equal(third.forces[1], [0.5, -1.0, 0.25])
    # stress = -virial / 40
    np.testing.assert_allclose(third.stress, [[-0.1, 0, -0.02], [0, 0.05, 0], [-0.02, 0, 0]])
    assert third.source.endswith("water/data.0#2")
    assert {s.group for s in found} == {third.source.split("#")[0]}
    assert third.total_charge is None


def test_folders_are_found(folder):
    _folder(folder.parent / "deep" / "data.1", [_arrays(0, 1)])
    (folder.parent / "other").mkdir()
    assert get("deepmd").find(folder.parent) == [folder, folder.parent / "deep" / "data.1"]
    assert get("deepmd").find(folder) == [folder]


def test_molecules_have_no_cell(tmp_path):
    arrays = _arrays(0, 1) | {"charge_spin": np.array([[-1.0, 2.0]])}
    found = structures(get("deepmd"), _folder(tmp_path / "molecule", [arrays], nopbc=True))
    assert not found[0].pbc.any() and not found[0].cell.any()
    assert found[0].stress is None
    assert (found[0].total_charge, found[0].spin_multiplicity) == (-1, 2)


def test_labels_may_be_missing(tmp_path):
    arrays = {key: value for key, value in _arrays(0, 1).items() if key in ("coord", "box", "energy")}
    (one,) = structures(get("deepmd"), _folder(tmp_path / "s", [arrays]))
    assert one.energy == -100 and one.forces is None and one.stress is None


def test_mixed_type(tmp_path):
    arrays = _arrays(0, 2, atoms=4) | {"real_atom_types": np.array([[1, 2, 2, -1], [0, 0, 1, 1]])}
    path = _folder(tmp_path / "4", [arrays], types=(0, 0, 0, 0), elements=("C", "O", "H"))
    first, second = structures(get("deepmd"), path)
    np.testing.assert_array_equal(first.numbers, [8, 1, 1])  # the fourth is no atom
    assert first.forces.shape == (3, 3)
    np.testing.assert_array_equal(second.numbers, [6, 6, 8, 8])
    assert (first.group, second.group) == ("H2O", "C2O2")


def test_parts_cross_sets_and_blocks(folder, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 2)
    check_parts(get("deepmd"), folder, [Part(folder, 0, 1), Part(folder, 1, 4), Part(folder, 4, 5)])


def _write_group(group, sets, *, nopbc=False):
    group["type.raw"] = np.array([0, 1, 1])
    group["type_map.raw"] = np.array(["O", "H"], dtype="S")
    for number, arrays in enumerate(sets):
        for key, values in arrays.items():
            group[f"set.{number:03d}/{key}.npy"] = values.astype(np.float32)
    if nopbc:
        group["nopbc"] = True


def test_hdf5(tmp_path):
    path = tmp_path / "openlam.hdf5"
    with h5py.File(path, "w") as file:
        _write_group(file.create_group("a"), [_arrays(0, 2), _arrays(2, 1)])
        _write_group(file.create_group("nested/b"), [_arrays(8, 2)], nopbc=True)
    recipe = get("deepmd-hdf5")
    found = structures(recipe, path)
    assert [s.source for s in found] == [
        *(f"openlam.hdf5/a#{n}" for n in range(3)),
        "openlam.hdf5/nested/b#0",
        "openlam.hdf5/nested/b#1",
    ]
    np.testing.assert_allclose(found[2].stress[0, 0], -0.1, rtol=1e-6)
    assert found[4].energy == -109 and not found[4].pbc.any()
    assert [s.group for s in found[2:4]] == ["openlam.hdf5/a", "openlam.hdf5/nested/b"]
    check_parts(recipe, path, [Part(path, 0, 1), Part(path, 1, 4), Part(path, 4, 5)])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "type_map.raw").unlink(), r"data.0' has no type_map.raw"),
        (lambda f: (f / "type_map.raw").write_text("Type_0\nType_1\n"), r"'Type_0' in type_map.raw is no element"),
        (lambda f: (f / "type.raw").write_text("0\n1\n2\n"), "types outside of type_map.raw"),
        (lambda f: (f / "set.001/box.npy").unlink(), "set.001 has no box.npy; put an empty file 'nopbc'"),
        (lambda f: np.save(f / "set.000/force.npy", np.zeros((2, 6))), r"set.000/force.npy has shape \(2, 6\) instead"),
        (lambda f: np.save(f / "set.001/energy.npy", np.zeros(2)), r"set.001/energy.npy has shape \(2,\)"),
        (lambda f: (f / "set.000/coord.npy").write_bytes(b"\x93NUMPY"), r"Cannot read '.*coord.npy'"),
    ],
)
def test_bad_folders(folder, spoil, message):
    spoil(folder)
    with pytest.raises(LamError, match=message):
        structures(get("deepmd"), folder)


def test_bad_frames_are_named(folder):
    energy = np.array([-100.0, np.nan])
    np.save(folder / "set.000/energy.npy", energy)
    box = np.tile(CELL.reshape(9), (3, 1))
    box[1] = 0
    np.save(folder / "set.001/box.npy", box)
    messages = problems(get("deepmd"), folder)
    assert len(messages) == 2
    assert "water/data.0#1" in messages[0] and "energy" in messages[0]
    assert "water/data.0#3" in messages[1]


def test_moments_of_atoms_are_not_lost_in_silence(tmp_path):
    arrays = _arrays(0, 2) | {"spin": np.ones((2, 9)), "force_mag": np.ones((2, 9))}
    folder = _folder(tmp_path / "iron", [arrays])
    with pytest.warns(LamWarning, match=r"iron' has the moments of atoms \(spin.npy\), which are not read"):
        assert len(structures(get("deepmd"), folder)) == 2


def test_a_file_that_is_one_system_is_recognised(tmp_path):
    path = tmp_path / "water.hdf5"
    with h5py.File(path, "w") as file:
        file["type.raw"] = np.array([0, 1, 1])
        file["type_map.raw"] = ["O", "H"]
        for key, values in _arrays(0, 2).items():
            file[f"set.000/{key}.npy"] = values
    assert detect(path) == "deepmd-hdf5"
    assert [s.energy for s in structures(get("deepmd-hdf5"), path)] == [-100, -101]
