"""Selection of the official training frames by data_prep/scratch.py."""

import importlib.util
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from making import crystals

from lam.config import load_config
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import load_manifest
from lam.data.shards import Shard

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("scratch", ROOT / "data_prep" / "scratch.py")
scratch = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = scratch  # pydantic looks there for what annotations name
SPEC.loader.exec_module(scratch)


@pytest.fixture
def files(tmp_path):
    """Return a folder with a file of 20 frames ``a_train``, 10 ``a_test``, in turns, and 5 ``b``."""
    frames = crystals(35)
    for index, atoms in enumerate(frames):
        atoms.info["config_type"] = "b" if index >= 30 else ("a_test" if index % 3 == 2 else "a_train")
        # ASE writes the calculator's results as the labels.
    ase.io.write(tmp_path / "labels.extxyz", frames)
    return tmp_path


def select(files, text):
    (files / "selection.yaml").write_text(text)
    return scratch.main([str(files / "selection.yaml"), str(files), str(files / "out")])


def test_frames_are_selected_and_independent_ones_are_held_out_singly(files):
    status = select(
        files,
        "datasets:\n"
        "  one: {file: labels.extxyz, config_types: ['a_tr*'], licence: free}\n"
        "  other: {file: labels.extxyz, config_types: [a_test], evaluate_only: true}\n",
    )
    assert status == 0
    manifest = load_manifest(files / "out" / "manifest.yaml")
    assert manifest.names == ["one"] and manifest.datasets[0].licence == "free"
    train, val = (MultiTaskDataset(manifest, split, 4.0) for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 2)
    frames = [int(train.shards[0].source_of(row).split("#")[1]) for row in range(20)]
    assert frames == [index for index in range(30) if index % 3 != 2]
    other = Shard(files / "out" / "other.h5")
    assert len(other) == 10
    expected = ase.io.read(files / "labels.extxyz", "2")
    assert other[0].energy == pytest.approx(expected.get_potential_energy())
    assert np.allclose(other[0].forces, expected.get_forces())


def test_frames_of_trajectories_are_held_out_in_one_block(files):
    text = "datasets: {one: {file: labels.extxyz, config_types: [a_train], independent: false,"
    assert select(files, text + " split: {by: block, test: 0.0, val: 0.2}}}") == 0
    val = MultiTaskDataset(load_manifest(files / "out" / "manifest.yaml"), "val", 4.0)
    assert val.rows[0].tolist() == [16, 17, 18, 19]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: {one: {file: missing.extxyz}}", "missing.extxyz"),
        ("datasets: {one: {file: labels.extxyz, config_types: [none]}}", "no structures to write"),
        ("datasets: {one: {file: labels.extxyz, config_type: [a]}}", "did you mean 'config_types'"),
        ("datasets: {}", "datasets"),
        ("datasets: {one: {file: labels.extxyz, evaluate_only: true}}", "one must be to train on"),
        ("datasets: {../one: {file: labels.extxyz}}", "cannot name a data set"),
    ],
)
def test_what_cannot_be_selected_is_said(files, text, message, capsys):
    assert select(files, text) == 2
    assert message in capsys.readouterr().err
    assert not list(files.rglob("manifest.yaml")) and not list(files.rglob("*.h5"))


def test_selections_in_configs():
    for file in (ROOT / "configs" / "scratch" / "data").glob("*.yaml"):
        selection = load_config(scratch.Selection, file)
        assert any(not chosen.evaluate_only for chosen in selection.datasets.values())
