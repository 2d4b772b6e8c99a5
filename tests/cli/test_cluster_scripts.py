"""The scripts for clusters: they parse, the commands that they start exist, and they requeue when they should."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from lam.cli.main import _parse, build_parser

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "configs" / "cluster").glob("*.sh"))
IDS = [script.name for script in SCRIPTS]


def started(script: Path) -> list[str]:
    """Return the words of the command that srun starts."""
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    [line] = re.findall(r"^srun .*$", text, re.MULTILINE)
    return shlex.split(line.removesuffix("&"))


def test_there_is_one_for_srun_and_one_for_torchrun():
    assert {"torchrun" in started(script) for script in SCRIPTS} == {True, False}


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_they_parse(script):
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_the_commands_in_them_exist(script):
    words = started(script)
    at = words.index("lam")
    assert words[at - 1] in ("-m", "--cpu-bind=cores")
    replaced = {"$config": "configs/pretrain/base.yaml", "output=$output": "output=runs/x", "$@": "steps=3"}
    args = _parse(build_parser(), [replaced.get(word, word) for word in words[at + 1 :]])
    assert args.command == "train" and args.overrides == ["output=runs/x", "steps=3"]
    if "torchrun" in words:
        from torch.distributed.run import get_args_parser

        own = [word.replace("$MIN_NODES:$SLURM_JOB_NUM_NODES", "2:4") for word in words[words.index("torchrun") + 1 :]]
        launched = get_args_parser().parse_args([word.replace("$GPUS", "4") for word in own])
        assert launched.module and launched.training_script == "lam" and launched.max_restarts > 0
        assert launched.nnodes == "2:4" and launched.rdzv_backend == "c10d"


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_examples_in_them_name_what_is_there(script):
    [example] = re.findall(r"^#   (sbatch .*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    for word in shlex.split(example):
        assert not word.startswith("configs/") or (ROOT / word).is_file(), word


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
@pytest.mark.parametrize(
    ("srun", "requeued"),
    [
        ("exit 0", False),  # finished
        ("exit 3", False),  # died before it had written anything: it would die again
        ('sleep 0.1; touch "$OUT/state/last.ckpt"; exit 137', True),
        ('kill -USR1 "$PPID"; sleep 0.5', True),  # the time is up
    ],
)
def test_a_job_is_put_back_into_the_queue_when_that_helps(script, srun, requeued, tmp_path):
    """With stand-ins for the programs of SLURM."""
    programs = tmp_path / "bin"
    programs.mkdir()
    called = tmp_path / "called"
    for name, text in (("srun", srun), ("scontrol", f'echo "$@" >> "{called}"; echo node1')):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    output = tmp_path / "out"
    (output / "state").mkdir(parents=True)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}", "OUT": str(output), "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[1-4]", "SLURM_JOB_NUM_NODES": "4",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(script), "config.yaml", str(output)], env=environment, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    calls = called.read_text() if called.exists() else ""
    assert ("requeue 77" in calls) == requeued, (done.stdout, done.stderr)
    assert done.returncode == (0 if requeued or srun == "exit 0" else 3)


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_misuse_says_how_to_use_them(script, tmp_path):
    done = subprocess.run(["bash", str(script), "only-one"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "CONFIG OUTPUT" in done.stderr
