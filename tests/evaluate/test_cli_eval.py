"""``lam eval``: what is printed, what is written, and how it refuses."""

from __future__ import annotations

import json

import pytest
from ase.io import write

from lam.checkpoint import CheckpointMetadata, save_checkpoint
from lam.cli.main import main


@pytest.fixture
def checkpoint(model, tmp_path):
    """Return the folder of the tiny model."""
    save_checkpoint(tmp_path / "tiny", model, metadata=CheckpointMetadata(name="tiny"))
    return str(tmp_path / "tiny")


@pytest.fixture
def labels(make, tmp_path):
    """Return a file of labelled structures, one of which no head covers."""
    structures = make([8, 1, 1, 8, 1, 1]) + make([8, 92], count=1)
    write(tmp_path / "water.extxyz", [s.to_atoms(prefix="REF_") for s in structures])
    return str(tmp_path / "water.extxyz")


def test_table_report_and_plots(checkpoint, labels, tmp_path, capsys):
    assert main(["eval", checkpoint, labels, "--head", "water", "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "Median force error / baseline" in printed
    assert "1 structure(s) skipped, the head 'water' does not cover U (1)" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["datasets"][0]["n_structures"] == 6
    assert report["datasets"][0]["own_head"]  # the file bears the head's name
    assert f"{report['datasets'][0]['forces']['mae']:.1f}" in printed
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "elements.png", "force-ratio.png", "parity.png", "report.json",
    ]  # fmt: skip


def test_root_mean_square_errors_per_structure(checkpoint, make, tmp_path, capsys):
    water = [s for s in make([8, 1, 1, 8, 1, 1]) if len(s) == 6]
    write(tmp_path / "water.extxyz", [s.to_atoms(prefix="REF_") for s in water])
    arguments = [checkpoint, str(tmp_path / "water.extxyz"), "--rmse", "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["eval", *arguments]) == 0
    printed = capsys.readouterr().out
    entry = json.loads((tmp_path / "out" / "report.json").read_text())["datasets"][0]
    assert f"{entry['forces']['rmse']:.1f}" in printed and f"{entry['energy']['rmse_per_structure']:.1f}" in printed
    assert entry["energy"]["rmse_per_structure"] == pytest.approx(6 * entry["energy"]["rmse"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{checkpoint}", "nowhere.extxyz"], "nowhere.extxyz"),
        (["{checkpoint}", "{labels}", "--head", "watr"], "Did you mean 'water'"),
        (["{checkpoint}", "{labels}", "--split", "test"], "has no splits"),
        (["{checkpoint}", "{labels}", "--batch-atoms", "0"], "--batch-atoms"),
        (["{checkpoint}", "{labels}", "-o", "{labels}"], "is a file"),
        (["no-such-model", "{labels}"], "no-such-model"),
    ],
)
def test_misuse_is_one_sentence_and_writes_nothing(arguments, message, checkpoint, labels, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert main(["eval", *(a.format(checkpoint=checkpoint, labels=labels) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lam: error: ") and message in error and "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before
