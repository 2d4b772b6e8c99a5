"""`lam data` as a person uses it."""

import json
import os
import subprocess
import sys

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


def test_every_action_has_help_with_an_example(capsys):
    for arguments in (["data"], ["data", "convert"], ["data", "info"], ["data", "check"]):
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
