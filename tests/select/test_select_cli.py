"""``lam data select`` as a person uses it."""

from __future__ import annotations

import json

import pytest
from ase.io import read, write

from lam.checkpoint import CheckpointMetadata, save_checkpoint
from lam.cli import data_select
from lam.cli.main import main
from lam.select import METHODS


@pytest.fixture
def tiny(tmp_path, model):
    save_checkpoint(tmp_path / "tiny", model, metadata=CheckpointMetadata(name="tiny"))
    return str(tmp_path / "tiny")


@pytest.fixture
def pool(tmp_path, rattled):
    write(tmp_path / "pool.extxyz", [*rattled("CH4", 12, stdev=0.05), *rattled("H2O", 5, stdev=0.05)])
    return str(tmp_path / "pool.extxyz")


def test_a_selection_is_written_and_told_of(pool, tiny, tmp_path, capsys):
    out = tmp_path / "chosen.extxyz.xz"
    assert main(["data", "select", pool, "--budget", "6", "--by", "diversity", "-m", tiny, "-o", str(out)]) == 0
    told = capsys.readouterr().out
    assert "6 of 17 structures" in told and "by diversity" in told and str(out) in told
    assert "elements missing" in told  # with one structure
    assert (tmp_path / "chosen.selection.json").is_file() and (tmp_path / "chosen.selection.png").is_file()
    # The table lists both elements, with how many structures of the pool and of the selection have them.
    cells = [line.split()[:2] for line in told.splitlines()]
    assert ["H", "17"] in cells and ["O", "5"] in cells


def test_going_on_with_what_one_has(pool, tiny, tmp_path, capsys):
    options = ["--by", "uncertainty", "-m", tiny, "--head", "mol"]
    first, second = str(tmp_path / "first.extxyz"), str(tmp_path / "second.extxyz")
    assert main(["data", "select", pool, "--budget", "4", *options, "-o", first]) == 0
    assert main(["data", "select", pool, "--budget", "13", *options, "--already", first, "-o", second]) == 0
    sources = [{atoms.info["source"] for atoms in read(file, ":")} for file in (first, second)]
    assert not sources[0] & sources[1]
    assert len(sources[0] | sources[1]) == 17
    assert "beside 4 that you have" in capsys.readouterr().out


def test_the_command_knows_every_way_to_choose():
    assert data_select.METHODS == METHODS


def test_json_is_the_report(pool, tmp_path, capsys):
    out = str(tmp_path / "chosen.h5")
    assert main(["data", "select", pool, "--budget", "3", "--by", "random", "-o", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "chosen.selection.json").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "18", "-o", "chosen.extxyz"], "ask for at most 17"),
        (["--budget", "3", "-o", "chosen.cif"], "must end in"),
        (["--budget", "3", "-o", "chosen.extxyz", "-m", "lam-nan"], "Did you mean 'lam-nano'"),
        (["--budget", "3", "-o", "chosen.extxyz", "--already", "gone.extxyz"], "There is no file or folder"),
        (["--budget", "3"], "required: -o/--out"),
    ],
)
def test_mistakes_are_one_sentence(pool, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["data", "select", pool, *options, "--by", "random"] if "-m" not in options else
                      ["data", "select", pool, *options])  # fmt: skip
    except SystemExit as error:
        status = error.code
    assert status == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("lam: error: ") and "\n" not in told and message in told
    assert [path.name for path in tmp_path.iterdir()] == ["pool.extxyz"]
