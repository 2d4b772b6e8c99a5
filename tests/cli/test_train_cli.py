"""`lam finetune` from words to arguments, and as a person types it."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from lam.cli import main as cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch):
    made = []
    stub = types.ModuleType("lam.train.finetune")
    stub.finetune = lambda *values, **options: made.append((values, options))
    monkeypatch.setitem(sys.modules, "lam.train.finetune", stub)
    return made


NEEDED = ["finetune", "--model", "m", "--data", "a.xyz", "--method", "full", "--out", "o"]


def test_all_options(calls):
    more = ["--test", "t.xyz", "u.xyz", "hold_out=0.2", "--pretraining-data", "p.yaml", "--config", "c.yaml", "steps=3"]
    assert cli.main([*NEEDED, *more]) == 0
    [(values, options)] = calls
    assert values == ("m", ["a.xyz"])
    assert options["test"] == ["t.xyz", "u.xyz"]
    assert options["pretraining_data"] == "p.yaml" and options["config"] == "c.yaml"
    assert options["hold_out"] == 0.2 and options["steps"] == 3
    assert "seed" not in options  # the file's holds


@pytest.mark.parametrize(("words", "seed"), [([], 0), (["--seed", "3"], 3), (["seed=5"], 5)])
def test_seed(words, seed, calls):
    assert cli.main([*NEEDED, *words]) == 0
    assert calls[0][1]["seed"] == seed


def test_a_failing_fine_tune_is_one_sentence(tmp_path):
    (tmp_path / "empty.extxyz").touch()
    command = [sys.executable, str(ROOT / "finetune.py"), "--model", "nothing", "--data", "empty.extxyz"]
    done = subprocess.run(
        [*command, "--method", "head", "--out", "o"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("lam: error: There is no model 'nothing'")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.extxyz"]
