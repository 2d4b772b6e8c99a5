"""`lam data` as a person uses it."""

import json
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from lam.cli.main import main


@pytest.fixture
def labels(tmp_path):
    rng = np.random.default_rng(0)
    frames = []
    for number in range(12):
        positions = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + rng.normal(scale=0.02, size=(3, 3))
        atoms = Atoms("OH2", positions=positions, info={"REF_energy": -14.0 - 0.01 * number, "group": f"g{number}"})
        forces = rng.normal(size=(3, 3))
        atoms.arrays["REF_forces"] = forces - forces.mean(axis=0)
        frames.append(atoms)
    write(tmp_path / "labels.extxyz", frames)
    return tmp_path / "labels.extxyz"


def test_convert_info_and_check(labels, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "convert", str(labels), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "labels: 12 structures, 36 atoms" in said and str(out / "manifest.yaml") in said
    assert main(["data", "convert", str(labels), "-o", str(out)]) == 0
    assert "skipped" in capsys.readouterr().out

    for path in (out / "manifest.yaml", out, out / "labels.h5", labels):
        assert main(["data", "info", str(path), "--json"]) == 0
        (summary,) = json.loads(capsys.readouterr().out)
        assert (summary["name"], summary["structures"], summary["atoms"]) == ("labels", 12, 36)
        assert summary["labels"] == {
            "energy": 12,
            "forces": 12,
            "stress": 0,
            "total_charge": 0,
            "spin_multiplicity": 0,
        }
        assert summary["elements"] == {"H": 12, "O": 12}
        assert main(["data", "info", str(path)]) == 0
        assert "labels" in capsys.readouterr().out

    for path in (out, labels):
        assert main(["data", "check", str(path)]) == 0
        assert "nothing suspicious" in capsys.readouterr().out


def test_check_says_what_is_wrong_and_fails(labels, capsys):
    with open(labels, "a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1\nH 0 0 0 nan 0 0\n")
    assert main(["data", "check", str(labels)]) == 1
    assert "labels.extxyz#12: NaN" in capsys.readouterr().out
    assert main(["data", "check", str(labels), "--json"]) == 1
    assert any(f["level"] == "error" for f in json.loads(capsys.readouterr().out)["labels"])


@pytest.mark.parametrize("action", ["convert", "info", "check"])
def test_a_missing_file(action, tmp_path, capsys):
    extra = ["-o", str(tmp_path / "out")] if action == "convert" else []
    assert main(["data", action, str(tmp_path / "missing.extxyz"), *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lam: error: ") and "missing.extxyz" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("action", ["convert", "info"])
def test_a_bad_frame_is_one_sentence(labels, action, tmp_path, capsys):
    with open(labels, "a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3 energy=nan\nH 0 0 0\n")
    extra = ["-o", str(tmp_path / "out")] if action == "convert" else []
    assert main(["data", action, str(labels), *extra]) == 2
    error = capsys.readouterr().err
    assert "labels.extxyz#12" in error and "nan" in error and error.count("\n") == 1


def test_the_audit_after_a_conversion(tmp_path, capsys):
    rng = np.random.default_rng(0)
    frames = []
    for number in range(30):
        atoms = Atoms(
            "OH2", positions=np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + 0.02 * rng.random((3, 3))
        )
        atoms.info |= {"REF_energy": -14.0 - 0.01 * number, "group": f"g{number}"}
        atoms.arrays["REF_forces"] = np.full((3, 3), 1.0)  # they do not sum to zero
        frames.append(atoms)
    write(tmp_path / "tilted.extxyz", frames)
    arguments = ["data", "convert", str(tmp_path / "tilted.extxyz"), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--no-check"]) == 0
    assert "suspicious" not in capsys.readouterr().out and not (tmp_path / "out" / "audit.json").exists()
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "suspicious" in said and "nothing suspicious" not in said
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["tilted"]
    assert main([*arguments, "--strict"]) == 1


def test_broken_frames_are_skipped_when_asked(labels, tmp_path, capsys):
    with open(labels, "a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3 energy=nan\nH 0 0 0\n")
    out = tmp_path / "out"
    assert main(["data", "convert", str(labels), "-o", str(out), "--skip-broken", "1"]) == 0
    said = capsys.readouterr().out
    assert "labels: 12 structures" in said and f"1 broken frames were left out -> {out / 'skipped.json'}" in said
    (entry,) = json.loads((out / "skipped.json").read_text())["labels"]
    assert "labels.extxyz#12" in entry["reason"] and "nan" in entry["reason"]


def test_recipes_are_listed_and_described(capsys):
    assert main(["data", "recipes"]) == 0
    said = capsys.readouterr().out
    assert "omat24" in said and "vasp" in said
    assert main(["data", "recipes", "omol25"]) == 0
    said = capsys.readouterr().out
    for words in ("10.48550/arXiv.2505.08762", "CC-BY-4.0", "wB97M-V", "spin_multiplicity", "--recipe omol25"):
        assert words in said
    assert main(["data", "recipes", "--json"]) == 0
    recipes = {recipe["name"]: recipe for recipe in json.loads(capsys.readouterr().out)}
    assert {label["unit"] for label in recipes["omat24"]["labels"]} == {"eV", "eV/Angstrom", "eV/Angstrom^3"}
    assert main(["data", "recipes", "omat"]) == 2
    assert "Did you mean 'omat24'" in capsys.readouterr().err


def test_a_recipe_by_name_and_by_recognition(tmp_path, capsys):
    lmdb = pytest.importorskip("lmdb")
    row = {"numbers": [8, 1], "positions": [[0, 0, 0], [0, 0, 0.97]], "cell": [[0] * 3] * 3, "pbc": [False] * 3}
    row |= {"energy": -2060.0, "forces": [[0, 0, 0.1], [0, 0, -0.1]], "data": {"charge": -1, "spin": 1}}
    with lmdb.open(str(tmp_path / "a.aselmdb"), subdir=False, map_size=2**20) as env, env.begin(write=True) as txn:
        txn.put(b"1", zlib.compress(json.dumps(row).encode()))
        txn.put(b"nextid", zlib.compress(b"2"))
    source, out = str(tmp_path / "a.aselmdb"), str(tmp_path / "out")
    assert main(["data", "convert", source, "-o", out, "--recipe", "omol25"]) == 0
    assert "omol25: 1 structures, 2 atoms" in capsys.readouterr().out
    assert main(["data", "convert", source, "-o", out]) == 0
    assert "a: 1 structures, 2 atoms (recipe aselmdb, recognised)" in capsys.readouterr().out
    assert main(["data", "info", out, "--json"]) == 0
    found = {summary["name"]: summary for summary in json.loads(capsys.readouterr().out)}
    assert found["omol25"]["about"]["level_of_theory"] == "wB97M-V/def2-TZVPD, ORCA 6"
    assert found["a"]["labels"]["total_charge"] == 1 and found["a"]["labels"]["spin_multiplicity"] == 1


def test_every_action_has_help_with_an_example(capsys):
    for arguments in (["data"], *(["data", action] for action in ("convert", "recipes", "info", "check"))):
        try:
            status = main([*arguments, "--help"])
        except SystemExit as stop:
            status = stop.code
        assert status in (0, None)
        assert "example" in capsys.readouterr().out


def test_the_script_of_the_repository(labels, tmp_path):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    script = os.path.join(root, "data_prep", "convert_folder.py")
    environment = os.environ | {"PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, script, str(labels.parent), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "manifest.yaml").is_file() and (tmp_path / "out" / "labels.h5").is_file()


def test_a_failed_conversion_leaves_no_empty_folder(tmp_path, capsys):
    from lam.cli.main import main

    (tmp_path / "bad.extxyz").write_text('1\nProperties=species:S:1:pos:R:3 REF_energy=nan pbc="F F F"\nH 0 0 0\n')
    assert main(["data", "convert", str(tmp_path / "bad.extxyz"), "-o", str(tmp_path / "out")]) == 2
    assert "bad.extxyz#0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
