"""Extended XYZ: plain names, MACE's heads and weights, NequIP's key mapping."""

import gzip

import numpy as np
import pytest
from recipe_tools import problems, structures

from lam.data.recipes import get
from lam.data.recipes.xyz import mace_with, nequip_with
from lam.errors import LamError

LATTICE = 'Lattice="2 0 0 0 2 0 0 0 5" pbc="T T T"'


def _write(path, *comments, columns="species:S:1:pos:R:3:REF_forces:R:3"):
    text = ""
    for comment in comments:
        text += f"2\n{LATTICE} Properties={columns} {comment}\n"
        text += "Li 0.0 0.0 0.0 0.5 0.0 -0.25\nF 1.0 1.0 2.5 -0.5 0.0 0.25\n"
    path.write_text(text)
    return path


def test_extxyz_reads_all_names(tmp_path):
    path = _write(
        tmp_path / "a.extxyz",
        'energy=-1.0 REF_energy=-9.5 REF_virials="2 0 0 0 4 0 0 0 0" total_charge=1 spin=2 group=g',
    )
    (one,) = structures(get("extxyz"), path)
    assert one.energy == -9.5 and one.group == "g"
    np.testing.assert_allclose(np.diag(one.stress), [-0.1, -0.2, 0])  # volume 20
    assert (one.total_charge, one.spin_multiplicity) == (1, 2)


def test_mace_reads_reference_labels_only(tmp_path):
    path = _write(
        tmp_path / "train.xyz",
        'REF_energy=-9.5 energy=-1.0 REF_stress="0.1 0 0 0 0 0 0 0 0" total_charge=-1 total_spin=3 config_type=bulk',
        'energy=-1.0 stress="0.1 0 0 0 0 0 0 0 0"',
        "REF_energy=-9.0 config_forces_weight=0.0",
        "REF_energy=-8.0 config_weight=0",
    )
    items = [item for part in get("mace").parts(path) for item in get("mace").read(part)]
    first, second, third, fourth = items
    assert first.energy == -9.5 and first.stress[0, 0] == 0.1
    assert (first.total_charge, first.spin_multiplicity, first.group) == (-1, 3, "bulk")
    np.testing.assert_array_equal(first.forces[0], [0.5, 0, -0.25])
    # A plain energy does not fill the gap of a missing REF_energy.
    assert second.energy is None and second.stress is None and second.forces is not None
    assert third.energy == -9 and third.forces is None
    assert "train.xyz#3 has config_weight = 0" in str(fourth)


def test_mace_heads_are_not_mixed(tmp_path):
    path = _write(tmp_path / "heads.xyz", "REF_energy=-9.5 head=pbe", "REF_energy=-9.0 head=r2scan", "REF_energy=-8.0")
    messages = problems(get("mace"), path)
    assert "heads.xyz#1 is of the head 'r2scan', the file begins with 'pbe'" in messages[0]
    assert "heads.xyz#2 is of the head 'Default'" in messages[1]
    assert [s.energy for s in structures(mace_with("r2scan"), path)] == [-9.0]


def test_mace_without_reference_labels_says_what_to_do(tmp_path):
    path = _write(tmp_path / "plain.xyz", "energy=-9.5", columns="species:S:1:pos:R:3:forces:R:3")
    (message,) = problems(get("mace"), path)
    assert "plain.xyz#0 has no REF_energy or REF_forces" in message and "extxyz" in message


def test_nequip_names(tmp_path):
    path = _write(tmp_path / "n.xyz", "total_energy=-9.5", "energy=-9.25", columns="species:S:1:pos:R:3:forces:R:3")
    first, second = structures(get("nequip"), path)
    assert (first.energy, second.energy) == (-9.5, -9.25)
    np.testing.assert_array_equal(first.forces[1], [-0.5, 0, 0.25])


def test_nequip_key_mapping(tmp_path):
    path = _write(
        tmp_path / "n.xyz",
        'my_energy=-9.5 energy=0.0 my_virial="2 0 0 0 4 0 0 0 0"',
        columns="species:S:1:pos:R:3:f:R:3",
    )
    recipe = nequip_with({"my_energy": "total_energy", "f": "forces", "my_virial": "virial"})
    (one,) = structures(recipe, path)
    assert one.energy == -9.5 and one.forces[0, 0] == 0.5
    np.testing.assert_allclose(np.diag(one.stress), [-0.1, -0.2, 0])
    (message,) = problems(nequip_with({"other": "total_energy"}), path)
    assert "n.xyz#0 has no 'other'" in message
    (message,) = problems(nequip_with({"my_energy": "energie"}), path)
    assert "no label 'energie'" in message


def test_xyz_bad_input(tmp_path):
    path = _write(tmp_path / "a.xyz", "REF_energy=nan", "REF_energy=-9.0")
    assert "a.xyz#0" in problems(get("extxyz"), path)[0]
    path.write_text(path.read_text()[:-30])
    with pytest.raises(LamError, match=r"a.xyz' is truncated|Cannot understand a.xyz#1"):
        structures(get("mace"), _write(path, "REF_energy=-9.0") and _cut(path))
    packed = tmp_path / "b.xyz.gz"
    packed.write_bytes(gzip.compress(_write(path, "REF_energy=-9.0").read_bytes())[:-12])
    with pytest.raises(LamError, match=r"b.xyz.gz' is damaged or truncated"):
        structures(get("extxyz"), packed)


def _cut(path):
    text = path.read_text()
    path.write_text(text[: text.rindex("F 1.0")])
    return path
