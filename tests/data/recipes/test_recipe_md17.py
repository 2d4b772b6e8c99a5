"""MD17, rMD17 and MD22: keys, kcal/mol, stated units, blocks of compressed arrays, parts."""

import numpy as np
import pytest
from recipe_tools import BOHR, HARTREE, KCAL_MOL, check_parts, problems, structures

from lam.data.recipes import detect, get
from lam.data.recipes import md17 as module
from lam.data.recipes.base import Part
from lam.errors import LamError

ETHANE_LIKE = np.array([6, 1, 1, 8], dtype=np.uint8)


def _trajectory(count=5):
    positions = np.arange(count * 4 * 3, dtype=np.float64).reshape(count, 4, 3) / 8
    forces = np.zeros_like(positions)
    forces[:, 3] = [10.0, -20.0, 0.0]
    energies = -97000.0 - np.arange(count)
    return positions, energies, forces


def _md17(path, save=np.savez_compressed, **more):
    positions, energies, forces = _trajectory()
    arrays = {"R": positions, "E": energies[:, None], "F": forces, "z": ETHANE_LIKE, "name": "ethane", "type": "d"}
    save(path, **(arrays | more))
    return path


def test_md17_values(tmp_path):
    path = _md17(tmp_path / "md17_ethane.npz")
    found = structures(get("md17"), path)
    assert [s.source for s in found] == [f"md17_ethane.npz#{n}" for n in range(5)]
    last = found[4]
    assert last.energy == pytest.approx(-97004 * KCAL_MOL, rel=1e-6)
    np.testing.assert_allclose(last.forces[3], np.array([10, -20, 0]) * KCAL_MOL, rtol=1e-5)
    np.testing.assert_array_equal(last.positions, _trajectory()[0][4])
    np.testing.assert_array_equal(last.numbers, ETHANE_LIKE)
    assert {s.group for s in found} == {"md17_ethane"}
    assert (last.total_charge, last.spin_multiplicity) == (0, 1)


def test_stated_units_are_obeyed(tmp_path):
    path = _md17(tmp_path / "a.npz", e_unit="Hartree", r_unit="bohr")
    last = structures(get("md22"), path)[4]
    assert last.energy == pytest.approx(-97004 * HARTREE, rel=1e-6)
    np.testing.assert_allclose(last.positions, _trajectory()[0][4] * BOHR, rtol=1e-6)
    np.testing.assert_allclose(last.forces[3], np.array([10, -20, 0]) * HARTREE / BOHR, rtol=1e-6)
    path = _md17(tmp_path / "b.npz", e_unit="kJ/mol")
    with pytest.raises(LamError, match=r"b.npz' states the unit 'kj/mol'"):
        structures(get("md22"), path)


def test_rmd17_values(tmp_path):
    path = tmp_path / "rmd17_ethane.npz"
    positions, energies, forces = _trajectory()
    np.savez(
        path,
        nuclear_charges=ETHANE_LIKE,
        coords=positions,
        energies=energies,
        forces=forces,
        old_indices=np.arange(5),
        old_energies=energies + 3,
        old_forces=forces + 1,
    )
    found = structures(get("rmd17"), path)
    assert found[2].energy == pytest.approx(-97002 * KCAL_MOL, rel=1e-6)
    np.testing.assert_allclose(found[2].forces[3], np.array([10, -20, 0]) * KCAL_MOL, rtol=1e-5)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_parts_and_blocks(tmp_path, save, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 2)
    path = _md17(tmp_path / "md17_ethane.npz", save)
    check_parts(get("md17"), path, [Part(path, 0, 1), Part(path, 1, 4), Part(path, 4, 5)])


def test_bad_input(tmp_path):
    path = _md17(tmp_path / "a.npz", F=np.zeros((5, 3, 3)))
    with pytest.raises(LamError, match=r"a.npz': 'F' has shape \(5, 3, 3\) instead of \(5, 4, 3\)"):
        structures(get("md17"), path)
    with pytest.raises(LamError, match=r"no array 'coords' \(it has E, F, R, name, type, z\)"):
        structures(get("rmd17"), path)
    path = _md17(tmp_path / "b.npz", E=np.zeros(4))
    with pytest.raises(LamError, match=r"'E' has shape \(4,\) instead of \(5,\)"):
        structures(get("md17"), path)
    energies = _trajectory()[1]
    energies[3] = np.nan
    assert "b.npz#3" in problems(get("md17"), _md17(tmp_path / "b.npz", E=energies))[0]
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(LamError, match=r"Cannot read '.*b.npz': it is truncated"):
        structures(get("md17"), path)


def test_sgdml_of_any_molecule(tmp_path):
    path = _md17(tmp_path / "peptide.npz")
    found = structures(get("sgdml"), path)
    assert found[0].energy == pytest.approx(-97000 * KCAL_MOL, rel=1e-6)
    assert (found[0].total_charge, found[0].spin_multiplicity) == (None, None)  # nothing is known of it
    assert detect(path) == "sgdml"
    assert detect(_md17(tmp_path / "md22_DHA.npz")) == "md22"
    assert detect(_md17(tmp_path / "aspirin_ccsd-train.npz")) == "md17"
    path = _md17(tmp_path / "crystal.npz", lattice=np.eye(3))
    with pytest.raises(LamError, match="periodic data sets of sGDML"):
        structures(get("sgdml"), path)
