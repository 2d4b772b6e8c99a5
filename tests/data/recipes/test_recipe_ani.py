"""ANI-1x, ANI-1ccx, ANI-2x: keys, units, missing labels, parts."""

import h5py
import numpy as np
import pytest
from recipe_tools import HARTREE, assert_same, check_parts, problems, structures

from lam.data.recipes import ani as module
from lam.data.recipes.ani import ANI1CCX, ANI1X, ANI1X_TZ, ANI2X
from lam.data.recipes.base import Part
from lam.errors import LamError, LamWarning


@pytest.fixture
def ani1x(tmp_path):
    path = tmp_path / "ani1x-release.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("C1H4")
        group["atomic_numbers"] = np.array([6, 1, 1, 1, 1], dtype=np.uint8)
        coordinates = np.arange(3 * 5 * 3, dtype=np.float32).reshape(3, 5, 3)
        group["coordinates"] = coordinates
        group["wb97x_dz.energy"] = np.array([-40.5, -40.25, -40.0])
        forces = np.zeros((3, 5, 3), dtype=np.float32)
        forces[1, 2] = [0.5, 0.0, -0.25]
        group["wb97x_dz.forces"] = forces
        group["wb97x_tz.energy"] = np.array([np.nan, -40.5, np.nan])
        tz = np.full((3, 5, 3), np.nan, dtype=np.float32)
        tz[1:] = 0.125
        group["wb97x_tz.forces"] = tz
        group["ccsd(t)_cbs.energy"] = np.array([np.nan, np.nan, -40.75])
        other = file.create_group("H2")
        other["atomic_numbers"] = np.array([1, 1], dtype=np.uint8)
        other["coordinates"] = np.array([[[0, 0, 0], [0, 0, 0.75]]], dtype=np.float32)
        for key in ("wb97x_dz.energy", "wb97x_tz.energy", "ccsd(t)_cbs.energy"):
            other[key] = np.array([-1.125])
        for key in ("wb97x_dz.forces", "wb97x_tz.forces"):
            other[key] = np.zeros((1, 2, 3), dtype=np.float32)
    return path


def test_ani1x_values(ani1x):
    found = structures(ANI1X, ani1x)
    assert [s.source for s in found] == [
        "ani1x-release.h5/C1H4#0",
        "ani1x-release.h5/C1H4#1",
        "ani1x-release.h5/C1H4#2",
        "ani1x-release.h5/H2#0",
    ]
    second = found[1]
    assert second.energy == pytest.approx(-40.25 * HARTREE, rel=1e-7)
    np.testing.assert_allclose(second.forces[2], np.array([0.5, 0, -0.25]) * HARTREE, rtol=1e-6)
    np.testing.assert_array_equal(second.positions[0], [15, 16, 17])
    assert (second.group, second.total_charge, second.spin_multiplicity) == ("C1H4", 0, 1)


def test_nan_is_a_missing_label(ani1x):
    found = {s.source: s for s in structures(ANI1X_TZ, ani1x)}
    assert sorted(found) == ["ani1x-release.h5/C1H4#1", "ani1x-release.h5/C1H4#2", "ani1x-release.h5/H2#0"]
    assert found["ani1x-release.h5/C1H4#2"].energy is None
    assert found["ani1x-release.h5/C1H4#2"].forces[0, 0] == pytest.approx(0.125 * HARTREE)
    coupled = structures(ANI1CCX, ani1x)
    assert [s.source.split("/")[1] for s in coupled] == ["C1H4#2", "H2#0"]
    assert all(s.forces is None for s in coupled)
    assert coupled[0].energy == pytest.approx(-40.75 * HARTREE, rel=1e-7)


def test_ani1x_parts(ani1x):
    check_parts(ANI1X, ani1x, [Part(ani1x, 0, 1), Part(ani1x, 1, 2)])


def test_blocks_read_the_same(ani1x, ani2x, monkeypatch):
    whole = [structures(ANI1X, ani1x), structures(ANI2X, ani2x)]
    monkeypatch.setattr(module, "_BLOCK", 2)
    assert_same(structures(ANI1X, ani1x), whole[0])
    assert_same(structures(ANI2X, ani2x), whole[1])


def test_ani1x_bad_input(ani1x):
    with h5py.File(ani1x, "a") as file:
        del file["H2/wb97x_dz.forces"]
        del file["C1H4/wb97x_dz.energy"]
        file["C1H4/wb97x_dz.energy"] = np.zeros(2)
    messages = problems(ANI1X, ani1x)
    assert "C1H4" in messages[0] and "(2,) instead of (3,)" in messages[0]
    assert "H2" in messages[1] and "'wb97x_dz.forces'" in messages[1]


@pytest.fixture
def ani2x(tmp_path):
    path = tmp_path / "ANI-2x-wB97X-631Gd.h5"
    with h5py.File(path, "w") as file:
        two = file.create_group("2")
        two["species"] = np.array([[9, 1], [9, 1], [17, 1]])
        two["coordinates"] = np.arange(18, dtype=np.float64).reshape(3, 2, 3)
        two["energies"] = np.array([-100.0, -100.5, -460.0])
        two["forces"] = np.full((3, 2, 3), [0.25, 0.0, -0.5])
        three = file.create_group("3")
        three["species"] = np.array([[16, 1, 1], [8, 1, 1]])
        three["coordinates"] = np.arange(18, dtype=np.float64).reshape(2, 3, 3)
        three["energies"] = np.array([-398.0, -76.0])
        three["forces"] = np.zeros((2, 3, 3))
    return path


def test_ani2x_values(ani2x):
    found = structures(ANI2X, ani2x)
    assert [s.formula for s in found] == ["HF", "HF", "HCl", "H2S", "H2O"]
    assert [s.group for s in found] == ["HF", "HF", "HCl", "H2S", "H2O"]
    assert [s.source.split("#")[1] for s in found] == list("01234")
    assert found[2].energy == pytest.approx(-460 * HARTREE, rel=1e-7)
    np.testing.assert_allclose(found[2].forces[1], np.array([0.25, 0, -0.5]) * HARTREE, rtol=1e-6)
    np.testing.assert_array_equal(found[4].positions[0], [9, 10, 11])
    assert (found[0].total_charge, found[0].spin_multiplicity) == (0, 1)


def test_ani2x_parts_cross_the_sizes(ani2x):
    check_parts(ANI2X, ani2x, [Part(ani2x, 0, 2), Part(ani2x, 2, 4), Part(ani2x, 4, 5)])
    assert [(p.start, p.stop) for p in ANI2X.parts(ani2x)] == [(0, 5)]


def test_ani2x_bad_input(ani2x):
    with h5py.File(ani2x, "a") as file:
        del file["2/species"]
        file["3/energies"][1] = np.inf
        del file["3/forces"]
        file["3/forces"] = np.zeros((3, 3, 3))  # one frame too many
    (_, message) = problems(ANI2X, ani2x)
    assert "ANI-2x-wB97X-631Gd.h5/3: 'forces' has shape (3, 3, 3) instead of (2, 3, 3)" in message
    with h5py.File(ani2x, "a") as file:
        del file["3/forces"]
    messages = problems(ANI2X, ani2x)
    assert len(messages) == 2
    assert "ANI-2x-wB97X-631Gd.h5/2 has no data set 'species'" in messages[0]
    assert "ANI-2x-wB97X-631Gd.h5#4" in messages[1]
    ani2x.write_bytes(b"no HDF5 at all")
    with pytest.raises(LamError, match="no HDF5 file"):
        list(ANI2X.parts(ani2x))


def test_ani2x_at_another_level_of_theory_is_named(ani2x):
    with h5py.File(ani2x, "a") as file:
        size = next(iter(file))
        file[f"{size}/D3.energy-corrections"] = np.zeros(len(file[f"{size}/energies"]))
    with pytest.warns(LamWarning, match=r"D3.energy-corrections: it is not at wB97X/6-31G\(d\)"):
        structures(ANI2X, ani2x)


@pytest.mark.parametrize(("name", "command"), [("1000.xz", "unxz"), ("ANI-2x-wB97X-631Gd.tar.gz", "tar xf")])
def test_packed_files_are_named_as_such(tmp_path, name, command):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(LamError, match=f"is packed: unpack it first .{command} {name}"):
        list(ANI2X.parts(tmp_path / name))
