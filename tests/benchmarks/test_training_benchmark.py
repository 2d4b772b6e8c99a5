"""The benchmark of training and the plan: fits, distributions and formulas say what they should (nothing is timed)."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness.step_cost import fitted  # noqa: E402

from lam.cli import main as cli  # noqa: E402


def script(name):
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def training():
    return script("training")


@pytest.fixture(scope="module")
def plan():
    return script("scaling_plan")


def test_the_fit_finds_what_a_step_was_made_of():
    steps = [(atoms, edges, 1e-3 + 1e-4 * atoms + 1e-6 * edges) for atoms in (64, 256) for edges in (640, 5000, 20_000)]
    found = fitted(steps)
    assert found["ratio"] == pytest.approx(100.0) and found["error"] < 1e-9
    assert found["step"] == pytest.approx(1e-3) and found["edge"] == pytest.approx(1e-6)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """One data set with crystals of two sizes."""
    folder = tmp_path_factory.mktemp("data")
    frames = []
    for number in range(60):
        atoms = bulk("Cu", cubic=True).repeat((2, 2, 2) if number % 10 == 0 else 1)
        atoms.rattle(0.05, seed=number)
        atoms.info["REF_energy"], atoms.info["config_type"] = -3.5 * len(atoms), f"g{number}"
        atoms.arrays["REF_forces"] = 0.0 * atoms.positions
        frames.append(atoms)
    ase.io.write(folder / "copper.extxyz", frames)
    assert cli.main(["data", "convert", str(folder / "copper.extxyz"), "-o", str(folder / "shards")]) == 0
    return folder / "shards" / "manifest.yaml"


def test_the_imbalance_is_that_of_the_shares(training, manifest):
    data = training.data_module(manifest, "nano")
    large, small = (list(training.uneven(data, atoms, 2, 20)) for atoms in (200, 4))
    assert len(large) == len(small) == 20 and min(large + small) >= 1.0
    assert np.mean(large) < 1.1 < np.mean(small)  # one large crystal is more than its rank's share
    assert list(training.uneven(data, 4, 1, 3)) == [1.0, 1.0, 1.0]


def test_the_imbalance_is_drawn_and_written(training, manifest, tmp_path, monkeypatch, capsys):
    words = ["--manifest", str(manifest), "--ranks", "2", "4", "--budgets", "64", "--batches", "5"]
    monkeypatch.setattr(sys, "argv", ["training.py", "imbalance", "--out", str(tmp_path), *words])
    training.main()
    assert "64 atoms a rank, 4 ranks" in capsys.readouterr().out
    assert (tmp_path / "training-imbalance.png").stat().st_size > 1000
    assert (tmp_path / "training_imbalance.json").is_file()


def test_the_batches_of_the_loader_are_those_of_a_training(training, manifest):
    data = training.data_module(manifest, "nano")
    data.batch = data.batch.model_copy(update={"max_atoms": 64, "max_edges": 10_000})
    data.steps = 3
    batches = list(training.batches_of(data, 0))
    assert len(batches) == 3 and all(0 < training.atoms_in(batch) <= 64 for batch in batches)
    found = training.rate_of(lambda: 10, 0.0)
    assert found["cpu"] >= 0.0 and found["rate"] > 0.0


@pytest.fixture
def machine(plan):
    return plan.Machine(
        flop_rate=1e13, byte_rate=1e12, fraction=0.1, network=1e10, latency=1e-5, loader=1e9, launch=0.0
    )


@pytest.fixture
def load(plan):
    return plan.Load(flop=1e7, traffic=1e5, parameters=1_000_000, atoms=1000)


def test_a_step_of_one_gpu_is_its_work(plan, machine, load):
    parts = plan.step_seconds(machine, load, 1)
    assert parts["work"] == parts["step"] == pytest.approx(1000 * 1e7 / 1e13 / 0.1)
    assert plan.efficiency(machine, load, 1) == 1.0
    assert plan.rate(machine, replace(load, traffic=1e7)) == pytest.approx(0.1 * 1e12 / 1e7)  # bound by memory


def test_what_a_step_waits_for(plan, machine, load):
    assert plan.network_bytes(1_000_000, 2) == 4e6 and plan.network_bytes(1_000_000, 512) == pytest.approx(
        8e6, rel=2e-3
    )
    parts = plan.step_seconds(machine, load, 4)
    assert parts["gradients"] == pytest.approx(6e6 / 1e10) and parts["messages"] == pytest.approx(3 * 2 * 2 * 1e-5)
    few, many = (plan.efficiency(machine, load, gpus) for gpus in (8, 512))
    assert many < few < 1.0
    assert plan.efficiency(machine, replace(load, atoms=100_000), 512) > many  # more work for the same messages
    assert plan.efficiency(machine, replace(load, imbalance=1.5), 512) < many
    slow = replace(machine, loader=1e4)
    assert plan.step_seconds(slow, load, 8)["step"] == pytest.approx(1000 / 1e4)
    assert plan.step_seconds(replace(machine, launch=1e-3), replace(load, operators=100), 1)["step"] == pytest.approx(
        0.1
    )


def test_the_needs_of_a_preset_are_counted(plan):
    small, base = (plan.load_of(preset, 50.0, 4096) for preset in ("small", "base"))
    assert base.flop > small.flop > 1e6 and base.parameters > small.parameters > 100_000
