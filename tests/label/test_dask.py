"""Many workers through Dask: here, and as jobs of a queue; workers may die."""

from __future__ import annotations

import os
import signal
import stat
from collections import Counter

import pytest

from lam.errors import LamError, LamWarning
from lam.label.folder import run_folder
from lam.label.journal import read_journals
from lam.label.pools import default_jobs, open_pool
from lam.label.run import Settings, label
from tests.label.test_label import energies, failures_of, springs

pytest.importorskip("distributed")


def worker_of(calculation):
    """Return the Dask worker of a calculating process: the parent of its guard."""
    import psutil

    return psutil.Process(calculation).parent().ppid()


def test_killed_workers_lose_nothing(trimers, tmp_path):
    path, log, out = trimers(24, {5: "Ar"}), tmp_path / "log", tmp_path / "out.extxyz"
    killed = []

    def kill_one(progress):
        if progress.done >= 4 and not killed:
            calculation = int(log.read_text().split()[-2])
            killed.append(worker_of(calculation))
            os.kill(killed[0], signal.SIGKILL)

    settings = Settings(engine="ase:fakes.KillsWorker", options={"log": str(log), "seconds": 0.2}, jobs=2)
    report = label([path], out, settings, progress=kill_one)
    assert killed
    assert (report.labelled, report.failures) == (23, {"worker lost": 1})  # argon ends every worker that tries it
    assert failures_of(report)[0]["source"] == "trimers.extxyz#5"
    expected = springs(path)
    del expected[5]
    assert energies(out) == pytest.approx(expected, abs=1e-7)
    calculations = {int(line.split()[0]) for line in log.read_text().splitlines()}
    assert len(calculations) >= 3
    keys = Counter(record["key"] for record, _ in read_journals(run_folder(out)) if record.get("kind") != "worker lost")
    assert len(keys) == 23


def test_a_job_queue(trimers, tmp_path, monkeypatch):
    """SLURM in the form of a script that starts jobs at once: the real path through dask-jobqueue."""
    pytest.importorskip("dask_jobqueue")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (
        (
            "sbatch",
            f'cp "$1" {tmp_path}/job.sh; setsid sh {tmp_path}/job.sh > {tmp_path}/job.log 2>&1 &\n'
            'echo "Submitted batch job $!"',
        ),
        ("scancel", 'for job in "$@"; do kill -- -$job 2>/dev/null; done; true'),
    ):
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    options = tmp_path / "slurm.yaml"
    options.write_text("queue: short\nwalltime: '00:10:00'\ninterface: lo\n")
    settings = Settings(engine="ase:fakes.Springs", jobs=1, cluster="slurm", cluster_options=options)
    path = trimers(5)
    report = label([path], tmp_path / "out.extxyz", settings)
    assert energies(report.out) == pytest.approx(springs(path), abs=1e-7)
    job = (tmp_path / "job.sh").read_text()
    assert "#SBATCH -p short" in job and "#SBATCH -t 00:10:00" in job and "--nthreads 1" in job


def test_wrong_options_of_a_queue_are_a_sentence(tmp_path):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "slurm.yaml").write_text("wall_time: '00:10:00'\n")
    options = tmp_path / "slurm.yaml"
    wrong = pytest.raises(LamError, match=r"slurm.yaml' are wrong: .*wall_time")
    with wrong, open_pool(2, cluster="slurm", cluster_options=options):
        pass


def test_no_scheduler_at_the_address(monkeypatch):
    monkeypatch.setattr("lam.label.pools.CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(LamError, match=r"No Dask scheduler answers at 'tcp://127.0.0.1:1'"),
        open_pool(2, scheduler="tcp://127.0.0.1:1"),
    ):
        pass


def test_as_many_jobs_as_cores_or_structures(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert [default_jobs(count) for count in (0, 1, 3, 100)] == [1, 1, 3, 4]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.warns(LamWarning, match="Dask is missing"):
        assert default_jobs(100) == 1


def test_without_dask_one_job_still_runs(trimers, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    settings = Settings(engine="ase:fakes.Springs", jobs=2)
    with pytest.raises(LamError, match=r"pip install 'lam\[label\]'"):
        label([trimers(2)], tmp_path / "out.extxyz", settings)
    assert (
        label([trimers(2)], tmp_path / "out.extxyz", Settings(engine=settings.engine, jobs=1), resume=True).labelled
        == 2
    )
