"""Several processes on a part of the batch each do what one does on the whole."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from gradients_script import Gradients
from making import TINY
from safetensors.torch import load_file

import lam
from lam.train.run import pretrain
from lam.train.trainer import launched_processes

ROOT = Path(__file__).parents[2]
# Two layers, so that every kind of parameter takes part.
MODEL = {**TINY, "n_layers": 2, "l_max": 2, "tensor_channels": 4}


def torchrun(*command: str, processes: int = 2, cwd: Path = ROOT) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lightning" not in done.stderr, done.stderr
    return done.stdout


def logged(folder: Path) -> list[dict[str, str]]:
    with open(folder / "log" / "metrics.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def assert_same_log(one: list[dict[str, str]], two: list[dict[str, str]]) -> None:
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for key in first:
            assert (first[key] == "") == (second[key] == ""), key
            if first[key]:
                assert float(second[key]) == pytest.approx(float(first[key]), rel=1e-8, abs=1e-10), key


@pytest.mark.parametrize("processes", [2, 4])
def test_gradients_and_validation_of_processes_are_those_of_one(processes, settings, tmp_path):
    common = {"precision": "float64", "steps": 4, "model": MODEL, "log": {"every": 1, "validate_every": 4}}
    budget = {"max_atoms": 32 // processes, "max_edges": 1600 // processes}
    config = settings(**common, output=str(tmp_path / "many"), batch=budget)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    script = str(Path(__file__).parent / "gradients_script.py")
    torchrun(script, str(tmp_path / "config.yaml"), str(tmp_path / "many.safetensors"), processes=processes)
    one = Gradients()
    pretrain(
        settings(**common, output=str(tmp_path / "one"), batch={"max_atoms": 32, "max_edges": 1600}), callbacks=[one]
    )
    many = load_file(tmp_path / "many.safetensors")
    assert many.keys() == one.found.keys()
    largest = max(float(gradient.abs().max()) for gradient in many.values())
    assert largest > 1e-3
    for name, gradient in many.items():
        assert torch.allclose(gradient, one.found[name], rtol=1e-10, atol=1e-10 * largest), name
    # Everything is learned from: no parameter without a gradient (charge and spin are all zero here).
    dead = {name for name, gradient in many.items() if name.startswith("3.") and not gradient.any()}
    assert {name for name in dead if "charge_spin" not in name and "element_gain" not in name} == set()
    assert_same_log(logged(tmp_path / "one"), logged(tmp_path / "many"))


def test_the_training_command_under_torchrun(settings, tmp_path):
    # One validation batch for two processes: one of them has nothing to validate.
    common = {"precision": "float64", "steps": 3, "log": {"validate_every": 3, "validation_structures": 1}}
    config = settings(**common, output=str(tmp_path / "two"), batch={"max_atoms": 16, "max_edges": 800})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    printed = torchrun("train.py", str(tmp_path / "config.yaml"), "name=pair")
    assert printed.count("Wrote the checkpoint") == printed.count("Reading 2 data sets") == 1
    pretrain(settings(**common, output=str(tmp_path / "one"), batch={"max_atoms": 32, "max_edges": 1600}))
    assert_same_log(logged(tmp_path / "one"), logged(tmp_path / "two"))
    two = lam.load(tmp_path / "two" / "pair")
    assert two.metadata.training["processes"] == 2
    assert_close(two.state_dict(), lam.load(tmp_path / "one" / "tiny").state_dict())


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5"}, (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "3"}, (4, 2)),
    ],
)
def test_processes_of_launchers(environment, expected, monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched_processes() == expected
    assert launched_processes().first == (not environment)
