"""Conversion: files and folders become shards and a manifest, whole or not at all."""

import lzma

import numpy as np
import pytest
import yaml
from ase.io import write

from lam.data.convert import convert, convert_file, find_inputs
from lam.data.manifest import load_manifest
from lam.data.shards import Shard
from lam.errors import LamError


@pytest.fixture
def folder(tmp_path, molecule, crystal):
    source = tmp_path / "source"
    source.mkdir()
    write(
        source / "molecules.extxyz",
        [molecule(seed, total_charge=1.0 if seed == 2 else None).to_atoms() for seed in range(6)],
    )
    write(tmp_path / "c.extxyz", [crystal(seed).to_atoms(prefix="REF_") for seed in range(4)])
    (source / "crystals.extxyz.xz").write_bytes(lzma.compress((tmp_path / "c.extxyz").read_bytes()))
    (source / "README.md").write_text("not a structure")
    (tmp_path / "c.extxyz").unlink()
    return source


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_folder_becomes_a_manifest(folder, tmp_path, crystal, jobs):
    out = tmp_path / "out"
    results = list(convert([folder], out, jobs=jobs))
    assert {r.name: (r.structures, r.atoms, r.skipped) for r in results} == {
        "molecules": (6, 18, False),
        "crystals": (4, 16, False),
    }
    manifest = load_manifest(out)
    assert manifest.names == ["crystals", "molecules"]
    structure = Shard(out / "crystals.h5")[3]
    assert structure.source == "crystals.extxyz.xz#3"
    np.testing.assert_allclose(structure.stress, crystal(3).stress, atol=1e-8)
    assert sorted(p.name for p in out.iterdir()) == ["crystals.h5", "manifest.yaml", "molecules.h5"]


def test_metadata_reaches_shard_and_manifest(folder, tmp_path):
    table = {"datasets": {"molecules": {"level_of_theory": "MP2", "licence": "MIT", "total_charge": -1.0}}}
    (tmp_path / "meta.yaml").write_text(yaml.safe_dump(table))
    list(convert([folder], tmp_path / "out", metadata=tmp_path / "meta.yaml"))
    specs = {spec.name: spec for spec in load_manifest(tmp_path / "out").datasets}
    assert (specs["molecules"].level_of_theory, specs["molecules"].licence) == ("MP2", "MIT")
    assert specs["crystals"].level_of_theory == "not stated"
    shard = Shard(tmp_path / "out" / "molecules.h5")
    assert shard.attributes["level_of_theory"] == "MP2" and shard.attributes["default_total_charge"] == -1.0
    assert [s.total_charge for s in shard] == [-1.0, -1.0, 1.0, -1.0, -1.0, -1.0]


def test_finished_files_are_skipped_until_they_change(folder, tmp_path, molecule):
    source, target = folder / "molecules.extxyz", tmp_path / "m.h5"
    assert not convert_file(source, target).skipped
    assert convert_file(source, target).skipped
    assert not convert_file(source, target, force=True).skipped
    write(source, [molecule(seed).to_atoms() for seed in range(3)])
    assert convert_file(source, target).structures == 3
    target.write_bytes(target.read_bytes()[:500])
    assert not convert_file(source, target).skipped


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_frame_stops_by_name_and_leaves_nothing_half_written(folder, tmp_path, jobs):
    with open(folder / "molecules.extxyz", "a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3 energy=nan\nH 0 0 0\n")
    with pytest.raises(LamError, match=r"molecules\.extxyz#6"):
        list(convert([folder], tmp_path / "out", jobs=jobs))
    assert {p.name for p in (tmp_path / "out").glob("*")} <= {"crystals.h5"}


def test_inputs_that_cannot_be(tmp_path, folder):
    with pytest.raises(LamError, match="no file or folder"):
        find_inputs([tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(LamError, match="holds no structure files"):
        find_inputs([tmp_path / "empty"])
    (folder / "molecules.extxyz.gz").touch()
    with pytest.raises(LamError, match="both become 'molecules'"):
        find_inputs([folder])
    (tmp_path / "file").touch()
    with pytest.raises(LamError, match="is a file"):
        list(convert([folder / "crystals.extxyz.xz"], tmp_path / "file"))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"datasets": {"molecules": {"licens": "MIT"}}}, "did you mean 'licence'"),
        ({"datasets": {"molecule": {"licence": "MIT"}}}, "Known: molecule"),
    ],
)
def test_mistakes_in_the_metadata(folder, tmp_path, table, words):
    (tmp_path / "meta.yaml").write_text(yaml.safe_dump(table))
    with pytest.raises(LamError, match=words):
        list(convert([folder], tmp_path / "out", metadata=tmp_path / "meta.yaml"))
    assert not (tmp_path / "out").exists()


def test_overlapping_atoms_are_kept_with_a_warning(tmp_path, molecule):
    overlapping = molecule(1, positions=np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 1.0]]))
    write(tmp_path / "m.extxyz", [molecule(0).to_atoms(), overlapping.to_atoms()])
    result = convert_file(tmp_path / "m.extxyz", tmp_path / "m.h5")
    assert result.structures == 2
    assert len(result.warnings) == 1 and "m.extxyz#1" in result.warnings[0]
