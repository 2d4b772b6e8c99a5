"""Label many structures: share them out, survive what dies, collect the labels.

Every finished structure stands in a journal before anybody is told of it, so that killing a calculation, a worker
or the driver loses at most what was being calculated. ``resume`` goes on from the journals.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lam.errors import LamError
from lam.label.engines import Engine, make_engine
from lam.label.folder import Done, Inputs, claimed, collect_inputs, has_results, prepare, read_done, run_folder
from lam.label.journal import Journal
from lam.label.output import About, checked_output, write_failures, write_labels
from lam.label.periodic import CHECK_MODES, ENERGY_TOLERANCE, CheckMode
from lam.label.pools import Pool, default_jobs, open_pool
from lam.label.schedule import Schedule
from lam.label.tasks import Item, Outcome, Plan

TASK_SECONDS = 1.0
"""Structures are sent in tasks of about this length: long against a message, short against a run."""
MAX_TASK = 64
DEATHS = 3
"""A structure during which so many workers died is given up."""
_TICK = 1.0
_VISIBLE = 30.0
"""Seconds that a shared file system may take until it shows what another machine wrote."""


@dataclass(frozen=True)
class Settings:
    """How structures are labelled."""

    engine: str = "gfn1"
    options: Mapping[str, Any] = field(default_factory=dict)
    level_of_theory: str | None = None
    """What to state instead of the engine's own words."""
    licence: str = "not stated"
    """Licence of the labels."""
    jobs: int = 0
    """Calculations at a time; 0: as many as cores."""
    threads: int = 1
    """Threads of each calculation."""
    time_limit: float = 600.0
    """Seconds for one calculation, after which it is killed."""
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: str | Path | None = None
    check_extensivity: CheckMode = "auto"
    tolerance: float = ENERGY_TOLERANCE
    """eV per atom that a cell and a larger one may differ by."""
    max_force: float | None = None
    """Labels with a larger force than this (eV/Angstrom, norm on one atom) are left out."""


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    total: int
    done: int
    failed: int
    rate: float
    """Structures per second since the run began."""
    to_go: float | None
    """Seconds, estimated from the work done so far; ``None`` before there is any."""


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    out: Path
    total: int
    """Different structures in the input."""
    labelled: int
    failures: dict[str, int]
    """Number of failures by kind."""
    calculated: int
    """Structures calculated now, not found from an earlier run."""
    duplicates: int
    seconds: float
    level_of_theory: str
    failures_file: Path | None


def label(
    files: Sequence[str | Path],
    out: str | Path,
    settings: Settings = Settings(),
    *,
    resume: bool = False,
    overwrite: bool = False,
    retry_failures: bool = False,
    collect_only: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Label the structures of files and write them to ``out``.

    A script that calls this with several jobs needs the usual ``if __name__ == "__main__":``, because workers are
    started as new Python processes.

    Args:
        files: structure files that lam reads, and shards.
        out: ``.extxyz`` (also ``.xz``, ``.gz``, ``.zst``) or ``.h5``; failures and metadata are written beside it.
        settings: how.
        resume: go on with a run that was stopped; its results stay.
        overwrite: forget an earlier run and its output.
        retry_failures: with ``resume``, try again what failed.
        collect_only: write the output from the results so far, calculate nothing.
        progress: called about once a second.

    Raises:
        LamError: for wrong input or settings, or if Dask is lost; what was labelled stays, see ``resume``.
    """
    begin = time.monotonic()
    _check(settings)
    out = checked_output(out, files)
    engine = make_engine(settings.engine, settings.options)
    folder = run_folder(out)
    missing = next((file for file in files if not Path(file).is_file()), None)
    if missing is not None:
        raise LamError(f"There is no file '{missing}'.")
    if not (resume or overwrite or collect_only) and (out.exists() or has_results(folder)):
        raise LamError(f"'{out}' or a run for it is there already: go on by --resume, or start anew by --overwrite.")
    if (resume or collect_only) and not has_results(folder) and (out.exists() or collect_only):
        raise LamError(f"There are no results in '{folder}' to go on from; choose another output, or --overwrite.")
    with claimed(folder):
        identity = prepare(folder, _asked(engine, settings), resume=resume or collect_only, overwrite=overwrite)
        inputs = collect_inputs([Path(file) for file in files], folder)
        before = {} if overwrite else read_done(folder)
        done = {key: entry for key, entry in before.items() if not (retry_failures and entry.kind)}
        plan = Plan(
            run=identity,
            folder=str(folder.resolve()),
            engine=settings.engine,
            options=dict(settings.options),
            threads=settings.threads,
            time_limit=settings.time_limit,
            check=settings.check_extensivity,
            tolerance=settings.tolerance,
        )
        calculated = 0
        if not collect_only:
            schedule = Schedule(inputs.shard, inputs.keys, done, engine, plan.check)
            driver = _Driver(plan, inputs, schedule, before, progress)
            calculated = driver.run(settings, sum(key in done for key in inputs.keys))
        return _collect(out, folder, inputs, engine, settings, calculated, begin, partial=collect_only)


def _asked(engine: Engine, settings: Settings) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "settings": engine.settings,
        "engine_version": engine.version(),
        "check_extensivity": settings.check_extensivity,
        "tolerance": settings.tolerance,
    }


def _check(settings: Settings) -> None:
    if settings.jobs < 0 or settings.threads < 1:
        raise LamError("The number of jobs and threads must be positive.")
    if not settings.time_limit > 0:
        raise LamError(f"The time limit must be positive, not {settings.time_limit:g} s.")
    if settings.check_extensivity not in CHECK_MODES:
        raise LamError(f"'{settings.check_extensivity}' is no way to check extensivity; use {', '.join(CHECK_MODES)}.")
    if not settings.tolerance > 0 or (settings.max_force is not None and not settings.max_force > 0):
        raise LamError("Tolerance and largest force must be positive.")


class _Driver:
    """Keeps the workers busy until every structure has a result."""

    def __init__(
        self,
        plan: Plan,
        inputs: Inputs,
        schedule: Schedule,
        before: Mapping[str, Done],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._old = {key: entry.place for key, entry in before.items()}
        self._plan, self._schedule, self._progress = plan, schedule, progress
        self._total = len(inputs.keys)
        self._journal = Journal(Path(plan.folder))
        self._seconds = 0.0  # that calculations took
        self._calculated = self._failed = self._before = 0
        self._begin = time.monotonic()
        self._deaths: Counter[str] = Counter()
        self._work = schedule.todo

    def run(self, settings: Settings, before: int) -> int:
        """Label what has no result; return how many were calculated."""
        self._before = before
        tasks = self._next_task()
        if not tasks:
            return 0
        jobs = settings.jobs or default_jobs(self._schedule.count + len(tasks))
        with open_pool(
            jobs,
            scheduler=settings.scheduler,
            cluster=settings.cluster,
            cluster_options=settings.cluster_options,
        ) as pool:
            self._begin = time.monotonic()
            self._loop(pool, tasks)
        self._journal.close()
        return self._calculated

    def _loop(self, pool: Pool, first: list[Item]) -> None:
        under_way, task = 0, first
        told = 0.0
        while True:
            while task and under_way < pool.capacity():
                pool.submit(self._plan, task)
                under_way += 1
                task = self._next_task()
            if not under_way:
                return
            for items, outcomes in pool.wait(_TICK):
                under_way -= 1
                if outcomes is None:
                    outcomes, again = self._survivors(items)
                    for item in again:  # alone, so that the deadly one among them shows
                        pool.submit(self._plan, [item])
                    under_way += len(again)
                for outcome in outcomes:
                    self._finish(outcome)
                if time.monotonic() - told > _TICK:
                    told = time.monotonic()
                    self._tell()
            task = task or self._next_task()
            self._tell()

    def _next_task(self) -> list[Item]:
        mean = self._seconds / self._calculated if self._calculated else TASK_SECONDS
        items = self._schedule.take(max(1, min(MAX_TASK, round(TASK_SECONDS / max(mean, 1e-6)))))
        for key, kind, reason in self._schedule.refused():
            self._journal.append({"key": key, "kind": kind, "reason": reason, "seconds": 0.0})
            self._failed += 1
        return items

    def _finish(self, outcome: Outcome) -> None:
        if outcome.record is not None:  # its worker does not see the folder of the run
            self._journal.append(outcome.record)
        self._calculated += 1
        self._seconds += outcome.seconds
        self._failed += bool(outcome.kind)
        self._schedule.finish(outcome)

    def _survivors(self, items: Sequence[Item]) -> tuple[list[Outcome], list[Item]]:
        """Return what a dead worker had finished of its task, and what is to be tried again."""
        done = read_done(Path(self._plan.folder))
        outcomes, again = [], []
        for item in items:
            if item.key in done and done[item.key].place != self._old.get(item.key):
                outcomes.append(Outcome(item.key, done[item.key].kind, done[item.key].seconds))
                continue
            self._deaths[item.key] += 1
            if self._deaths[item.key] < DEATHS:
                again.append(item)
                continue
            reason = f"{DEATHS} workers that tried it died; out of memory, or ended by the job queue?"
            record = {"key": item.key, "kind": "worker lost", "reason": reason, "seconds": 0.0}
            outcomes.append(Outcome(item.key, "worker lost", 0.0, record))
        return outcomes, again

    def _tell(self) -> None:
        if self._progress is None:
            return
        spent = time.monotonic() - self._begin
        fraction = 1 - self._schedule.todo / self._work if self._work else 1.0
        self._progress(
            Progress(
                total=self._total,
                done=self._before + self._calculated,
                failed=self._failed,
                rate=self._calculated / spent if spent > 0 else 0.0,
                to_go=spent * (1 - fraction) / fraction if fraction > 0 else None,
            )
        )


def _collect(
    out: Path,
    folder: Path,
    inputs: Inputs,
    engine: Engine,
    settings: Settings,
    calculated: int,
    begin: float,
    *,
    partial: bool,
) -> Report:
    deadline = time.monotonic() + _VISIBLE
    while True:
        done = read_done(folder)
        missing = sum(key not in done for key in inputs.keys)
        if not missing or partial:
            break
        if time.monotonic() > deadline:
            raise LamError(f"The results of {missing} structures are not in '{folder}'; go on with --resume.")
        time.sleep(0.5)
    about = About(
        engine=engine.name,
        version=engine.version(),
        settings=engine.settings,
        level_of_theory=settings.level_of_theory or engine.level_of_theory(),
        licence=settings.licence,
    )
    labelled, too_large = write_labels(out, inputs, done, about, settings.max_force)
    failed, failures_file = write_failures(out, inputs, done, too_large)
    return Report(
        out=out,
        total=len(inputs.keys) + len(inputs.invalid),
        labelled=labelled,
        failures=dict(Counter(failed)),
        calculated=calculated,
        duplicates=inputs.duplicates,
        seconds=time.monotonic() - begin,
        level_of_theory=about.level_of_theory,
        failures_file=failures_file,
    )
