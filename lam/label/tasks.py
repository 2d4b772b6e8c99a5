"""What a worker does: label a few structures, check, and write each result to its journal at once."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lam.data.structure import Structure
from lam.errors import LamError
from lam.label.engines import Labels
from lam.label.journal import Journal
from lam.label.killable import Failure, KillableEngine
from lam.label.periodic import CheckMode, NotExtensive, check_extensivity

RUN_FILE = "run.json"


@dataclass(frozen=True)
class Plan:
    """What all tasks of a run have in common."""

    run: str
    """Identity of the run; stands in its folder, by which a worker knows that it sees the same one."""
    folder: str
    """Folder of the run, absolute."""
    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    time_limit: float = 600.0
    """Seconds for each calculation."""
    check: CheckMode = "auto"
    tolerance: float = 0.005
    """eV per atom, between a cell and a larger one."""


@dataclass(frozen=True)
class Item:
    """One structure to label."""

    key: str
    structure: Structure
    probe: bool = False
    """Is the extensivity of its cell to be checked?"""
    family: str | None = None
    """Name of the cells for which this one is checked."""


@dataclass(frozen=True)
class Outcome:
    """What the driver must know of a result; ``record`` only if it could not be written where the driver reads."""

    key: str
    kind: str
    """Empty for labels, else the kind of failure."""
    seconds: float
    record: dict[str, Any] | None = None


class _Worker:
    """The process of the engine and the journal of this worker, kept between tasks."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.killable = KillableEngine(plan.engine, plan.options, threads=plan.threads)
        self.journal = Journal(Path(plan.folder)) if _sees(plan) else None

    def close(self) -> None:
        self.killable.close()
        if self.journal is not None:
            self.journal.close()


_worker: _Worker | None = None


def label_items(plan: Plan, items: Sequence[Item]) -> list[Outcome]:
    """Label structures one by one; whatever goes wrong with one of them becomes its outcome.

    Args:
        plan: what the run has in common.
        items: the structures.
    """
    global _worker
    if _worker is None or _worker.plan != plan:
        close_worker()
        _worker = _Worker(plan)
    outcomes = []
    for item in items:
        record = _record(_worker, item)
        if _worker.journal is not None:
            _worker.journal.append(record)
        kept = None if _worker.journal is not None else record
        outcomes.append(Outcome(item.key, record.get("kind", ""), record["seconds"], kept))
    if _worker.journal is not None:
        _worker.journal.sync()
    return outcomes


def close_worker() -> None:
    """Kill the calculation of this process, if there is one, and close its journal."""
    global _worker
    if _worker is not None:
        _worker.close()
        _worker = None


def _sees(plan: Plan) -> bool:
    try:
        return json.loads((Path(plan.folder) / RUN_FILE).read_text(encoding="utf-8"))["id"] == plan.run
    except (OSError, ValueError, KeyError):
        return False


def _record(worker: _Worker, item: Item) -> dict[str, Any]:
    begin = time.monotonic()
    record: dict[str, Any] = {"key": item.key}
    try:
        worker.killable.start()
        begin = time.monotonic()  # importing the engine is no part of the calculation
        record |= _label(worker, item)
    except Failure as failure:
        record |= {"kind": failure.kind, "reason": failure.reason}
    except NotExtensive as error:
        record |= {"kind": "not extensive", "reason": str(error), "family": item.family}
    return record | {"seconds": round(time.monotonic() - begin, 4)}


def _label(worker: _Worker, item: Item) -> dict[str, Any]:
    plan, structure = worker.plan, item.structure

    def calculate(each: Structure) -> Labels:
        return worker.killable.calculate(each, plan.time_limit)

    labels = calculate(structure)
    try:
        replace(structure, energy=labels.energy, forces=labels.forces, stress=labels.stress)
    except LamError as error:
        raise Failure("invalid", str(error)) from None
    values: dict[str, Any] = {"labels": labels.to_dict()}
    if item.probe:
        try:
            extensivity = check_extensivity(structure, labels, calculate, mode=plan.check, tolerance=plan.tolerance)
        except Failure as failure:
            raise Failure(failure.kind, f"in the check of its extensivity: {failure.reason}") from None
        values["extensivity"] = None if extensivity is None else extensivity.to_dict()
        values["family"] = item.family
    return values
