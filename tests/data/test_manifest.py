"""Manifests: relative paths, unique names, strict keys."""

from pathlib import Path

import pytest

from lam.data.manifest import Manifest, load_manifest, save_manifest
from lam.errors import LamError


def test_saved_paths_are_relative_and_come_back(tmp_path, manifest):
    save_manifest(manifest, tmp_path / "manifest.yaml")
    assert str(tmp_path) not in (tmp_path / "manifest.yaml").read_text()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in ("manifest.yaml", "crystals.h5", "molecules.h5"):
        (tmp_path / file).rename(moved / file)
    loaded = load_manifest(moved)
    assert loaded.names == ["crystals", "molecules"]
    assert loaded.datasets[0].path == (moved / "crystals.h5").resolve()


def test_a_hand_written_manifest(tmp_path, manifest):
    text = """
datasets:
  - name: crystals
    path: crystals.h5
    level_of_theory: PBE
    weight: 2
    split: {by: group, test: 0.2, val: 0.1, seed: 3}
"""
    (tmp_path / "m.yaml").write_text(text)
    spec = load_manifest(tmp_path / "m.yaml").datasets[0]
    assert (spec.weight, spec.split.test, spec.split.seed, spec.licence) == (2.0, 0.2, 3, "not stated")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{name: crystals, path: crystals.h5, licens: MIT}", "did you mean 'licence'"),
        ("{name: crystals, path: crystals.h5, split: {tets: 0.1}}", "did you mean 'test'"),
        ("{name: crystals, path: missing.h5}", "not there"),
        ("{path: crystals.h5}", "name' is missing"),
        ("{name: a/b, path: crystals.h5}", "name"),
        ("{name: crystals, path: crystals.h5, weight: 0}", "weight"),
        ("{name: x, path: crystals.h5}\n  - {name: x, path: molecules.h5}", "two data sets are named 'x'"),
    ],
)
def test_mistakes_are_named(tmp_path, manifest, entry, words):
    (tmp_path / "m.yaml").write_text(f"datasets:\n  - {entry}\n")
    with pytest.raises(LamError, match=words):
        load_manifest(tmp_path / "m.yaml")


def test_selecting_data_sets(manifest):
    assert manifest.select(["molecules"]).names == ["molecules"]
    with pytest.raises(LamError, match="Did you mean 'crystals'"):
        manifest.select(["crystal"])


def test_paths_stay_out_of_the_way_of_names(manifest):
    assert isinstance(manifest, Manifest) and all(isinstance(spec.path, Path) for spec in manifest.datasets)
