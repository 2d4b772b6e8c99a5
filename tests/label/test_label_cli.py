"""`lam label` as a person uses it."""

from __future__ import annotations

import json

import pytest
from ase import Atoms
from ase.io import write

from lam.cli.label import parse_options
from lam.cli.main import main


def test_label_then_resume_then_train_from_it(trimers, tmp_path, capsys):
    path, out = trimers(4, {2: "He"}), tmp_path / "out.h5"
    command = ["label", str(path), "-o", str(out), "--engine", "ase:fakes.Troubled", "--jobs", "1"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "3 of 4 structures labelled" in said and "failed, error: 1" in said and "out.failures.jsonl" in said
    (failure,) = [json.loads(line) for line in (tmp_path / "out.failures.jsonl").read_text().splitlines()]
    assert failure["source"] == "trimers.extxyz#2" and failure["formula"] == "H2He" and "helium" in failure["reason"]

    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "3 of 4 structures labelled" in capsys.readouterr().out

    assert main(["data", "info", str(tmp_path / "out.yaml"), "--json"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["structures"] == 3 and "fakes.Troubled" in summary["about"]["level_of_theory"]


def test_labels_convert_with_their_metadata(trimers, tmp_path, capsys):
    out = tmp_path / "labels.extxyz.xz"
    command = ["label", str(trimers(3)), "-o", str(out), "--engine", "ase:fakes.Springs", "--jobs", "1"]
    assert main([*command, "--level-of-theory", "springs", "--licence", "CC0-1.0"]) == 0
    metadata = tmp_path / "labels.metadata.yaml"
    assert main(["data", "convert", str(out), "-o", str(tmp_path / "data"), "--metadata", str(metadata)]) == 0
    capsys.readouterr()
    assert main(["data", "info", str(tmp_path / "data"), "--json"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    about = summary["about"]
    assert (about["level_of_theory"], about["licence"]) == ("springs", "CC0-1.0")


def test_nothing_labelled_is_a_failure(trimers, tmp_path, capsys):
    out = tmp_path / "out.extxyz"
    command = ["label", str(trimers(1, {0: "He"})), "-o", str(out), "--engine", "ase:fakes.Troubled", "--jobs", "1"]
    assert main(command) == 1
    assert "0 of 1" in capsys.readouterr().out and not out.exists()


def test_the_list_of_engines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["label", "--engines"]) == 0
    said = capsys.readouterr().out
    for word in ("gfn1", "gfn2", "gpaw", "pyscf", "ase:module.Class", "Gamma point", "k-points"):
        assert word in said
    monkeypatch.setattr("lam.label.engines.EngineInfo.installed", None)
    assert main(["label", "--engines"]) == 0
    assert "no: pip install" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name files"),
        (["a.xyz"], "Name files"),
        (["missing.xyz", "-o", "out.extxyz"], "There is no file 'missing.xyz'"),
        (["a.xyz", "-o", "out.cif"], "must end in .extxyz"),
        (["a.xyz", "-o", "out.h5", "--engine", "gfn3"], "Did you mean"),
        (["a.xyz", "-o", "out.h5", "--option", "temperature"], "key=value"),
        (["a.xyz", "-o", "out.h5", "--overwrite", "--resume"], "choose one"),
        (["a.xyz", "-o", "out.h5", "--time-limit", "-1"], "time limit"),
        (["a.xyz", "-o", "out.h5", "--cluster-options", "c.yaml"], "needs --cluster"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments, words, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tblite")
    monkeypatch.chdir(tmp_path)
    write("a.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))
    assert main(["label", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("lam: error: ") and error.count("\n") == 1
    assert not (tmp_path / "out.h5").exists()


def test_options_are_yaml_and_placeholders_are_kept():
    items = ["xc=PBE", "kpts.density=3.5", "spin=true", "charge={charge}", "a.mult=x {multiplicity}", "kpts.gamma=yes"]
    assert parse_options(items) == {
        "xc": "PBE",
        "kpts": {"density": 3.5, "gamma": True},
        "spin": True,
        "charge": "{charge}",
        "a": {"mult": "x {multiplicity}"},
    }
