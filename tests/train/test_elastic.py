"""Processes that die: the job ends or restarts, and goes on with as many processes as there are."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

import lam
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import load_manifest

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).parent / "drawn_script.py")


def start(config, folder: Path, processes: int, *, victim: int = -1, step: int = -1, restarts: int = 0):
    """Train under torchrun; return the finished process."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        f"--max-restarts={restarts}", SCRIPT, str(folder / "config.yaml"), str(folder), str(victim), str(step),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)


def drawn(folder: Path, steps: range) -> Counter:
    """Return how often each (task, structure) was drawn for the steps, by all processes."""
    counts = Counter()
    for file in folder.glob("drawn-*.txt"):
        lines = [tuple(map(int, line.split())) for line in file.read_text().splitlines()]
        counts.update((task, structure) for step, task, structure in lines if step in steps)
    return counts


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_restarts_the_job(victim, settings, tmp_path):
    whole = settings(output=str(tmp_path / "whole"))
    assert start(whole, tmp_path / "a", 2).returncode == 0
    done = start(settings(), tmp_path / "b", 2, victim=victim, step=7, restarts=1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "dead").exists() and "Going on from step 6 of 12" in done.stdout
    one, two = lam.load(tmp_path / "whole" / "tiny").state_dict(), lam.load(tmp_path / "run" / "tiny").state_dict()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_dead_process_ends_a_job_without_restarts(settings, tmp_path):
    done = start(settings(), tmp_path / "a", 2, victim=1, step=4)
    assert done.returncode != 0 and "SIGKILL" in done.stderr
    assert not (tmp_path / "run" / "tiny").exists()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3)])
def test_going_on_with_other_processes_repeats_and_skips_nothing(before, after, settings, tmp_path):
    config = settings(steps=16, batch={"max_atoms": 12, "temperature": 1.0})
    assert start(config, tmp_path / "a", before, victim=0, step=7).returncode != 0
    done = start(config, tmp_path / "b", after)
    assert done.returncode == 0, done.stderr
    assert "Going on from step 6 of 16" in done.stdout
    data = MultiTaskDataset(load_manifest(config.manifest), "train", 4.0)
    counts = drawn(tmp_path / "a", range(6)) + drawn(tmp_path / "b", range(6, 16))
    for task in (0, 1):
        times = [counts[task, int(row)] for row in data.rows[task]]  # with those that were never drawn
        assert sum(times) > 5 and max(times) - min(times) <= 1, counts
