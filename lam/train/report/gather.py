"""What the folder of a training says: configuration, logs, states. Nothing is drawn here."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lam.config.load import read_yaml
from lam.errors import LamError
from lam.train.config import PretrainConfig
from lam.train.logs import STEP
from lam.train.losses import TERMS
from lam.train.state_io import SafetensorsCheckpointIO
from lam.train.states import BEST


@dataclass(frozen=True)
class Series:
    """A logged value over the steps."""

    steps: np.ndarray
    """Optimiser steps done, (n,) int64, rising."""
    values: np.ndarray
    """(n,) float64; may hold numbers that are not finite."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])

    @property
    def recent(self) -> float:
        """The mean of the last five values that are finite; NaN if there is none."""
        values = self.values[np.isfinite(self.values)][-5:]
        return float(values.mean()) if len(values) else float("nan")


class Log:
    """A CSV log: each column without its empty cells.

    A file that does not exist is an empty log. A line that a kill has cut off is left out.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, Series] = {}
        self.last_step: int | None = None
        if not path.is_file():
            return
        cells: dict[str, tuple[list[int], list[float]]] = {}
        with open(path, newline="", encoding="utf-8") as handle:
            lines = csv.reader(handle)
            names = next(lines, [])
            for line in lines:
                if len(line) == len(names):
                    self._add(dict(zip(names, line, strict=True)), cells)
        for name, (steps, values) in cells.items():
            self.columns[name] = Series(np.array(steps, dtype=np.int64), np.array(values))
            self.last_step = max(self.last_step or 0, steps[-1])

    @staticmethod
    def _add(row: dict[str, str], cells: dict[str, tuple[list[int], list[float]]]) -> None:
        step = row.pop(STEP, "")
        if not step.isdecimal():
            return
        for name, text in row.items():
            try:
                value = float(text)
            except ValueError:  # an empty cell, or half of a number
                continue
            steps, values = cells.setdefault(name, ([], []))
            steps.append(int(step))
            values.append(value)

    def get(self, name: str) -> Series | None:
        """Return a column, or None if nothing was logged under this name."""
        return self.columns.get(name)

    def starting(self, prefix: str) -> dict[str, Series]:
        """Return the columns whose name starts so, by the rest of the name."""
        return {name.removeprefix(prefix): s for name, s in self.columns.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class State:
    """A resumable state on disk."""

    name: str
    step: int | None
    """None if the file cannot be read."""
    processes: int | None
    """Processes of the training that wrote it; None if that was not looked up."""
    megabytes: float
    age: float
    """Seconds since it was written."""


@dataclass
class Run:
    """All that is known of a training."""

    folder: Path
    settings: dict[str, Any]
    """The configuration as its file has it; empty if there is none."""
    config: PretrainConfig | None
    """The same, parsed; None if there is none, or this version of lam does not understand it."""
    metrics: Log
    speed: Log
    states: list[State] = field(default_factory=list)
    finished: bool = False
    log_age: float = 0.0
    """Seconds since the last line of the log."""

    @property
    def step(self) -> int:
        """Optimiser steps of the last line of the log."""
        return max(self.metrics.last_step or 0, self.speed.last_step or 0)

    @property
    def heads(self) -> list[str]:
        """Names of the heads that occur in the logs, in order of their names."""
        found = {name.rpartition("/")[0] for name in self.metrics.starting("loss/")}
        found |= {name.rpartition("/")[0] for name in self.metrics.starting("val/") if "/" in name}
        return sorted(name for name in found if not name.startswith("element/"))

    def losses(self, term: str) -> dict[str, Series]:
        """Return the loss of a term by head."""
        return {
            name.rpartition("/")[0]: series
            for name, series in self.metrics.starting("loss/").items()
            if name.rpartition("/")[2] == term
        }

    def element_errors(self) -> dict[str, float]:
        """Return the mean absolute error of a force component in the last validation, eV/Angstrom, by element."""
        found = self.metrics.starting("val/element/")
        newest = max((int(series.steps[-1]) for series in found.values()), default=0)
        return {
            name.rpartition("/")[0]: series.last for name, series in found.items() if int(series.steps[-1]) == newest
        }


def read_run(folder: str | Path) -> Run:
    """Read the folder of a training.

    Raises:
        LamError: if it is none, or nothing has been logged yet.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LamError(f"There is no folder '{folder}': name the 'output' of a training.")
    file = folder / "config.yaml"
    settings = read_yaml(file) if file.is_file() else {}
    try:
        config = PretrainConfig.parse(settings, where=f"'{file}'") if settings else None
    except LamError:  # of another version: what it says is shown as it stands
        config = None
    metrics, speed = Log(folder / "log" / "metrics.csv"), Log(folder / "log" / "speed.csv")
    if not metrics.columns and not speed.columns:
        if not settings:
            raise LamError(
                f"'{folder}' is no folder of a training: it holds neither 'config.yaml' nor 'log/metrics.csv'."
            )
        every = f"step {config.log.every} (log.every)" if config else "the first steps"
        raise LamError(f"The training in '{folder}' has logged nothing yet: its first line is written at {every}.")
    age = min(time.time() - log.path.stat().st_mtime for log in (metrics, speed) if log.path.is_file())
    finished = bool(config) and (folder / config.name / "model.safetensors").is_file()
    return Run(folder, settings, config, metrics, speed, _states(folder / "state"), finished, age)


def _states(folder: Path) -> list[State]:
    """Return the states in a folder, the newest first."""
    found = []
    for path in folder.glob("[!.]*.ckpt"):
        number = path.stem.removeprefix("step-")
        step, processes = int(number) if number.isdecimal() else None, None
        try:
            if path.name in ("last.ckpt", BEST):
                state = SafetensorsCheckpointIO().load_checkpoint(path)
                step, processes = int(state["global_step"]), state.get("processes")
            status = path.stat()
        except (LamError, OSError, KeyError):  # being replaced, or damaged
            if not path.exists():
                continue
            step, status = None, path.stat()
        found.append(State(path.name, step, processes, status.st_size / 1e6, time.time() - status.st_mtime))
    order = {"last.ckpt": 0, BEST: 1}
    return sorted(found, key=lambda state: (order.get(state.name, 2), -(state.step or 0)))


# -- summary -----------------------------------------------------------------------------------


def summarise(run: Run) -> dict[str, Any]:
    """Return the state of a training as plain values, for ``report.json`` and the tables of the page."""
    steps = run.config.steps if run.config else None
    now: dict[str, Any] = {}
    for name in ("learning_rate", "gradient_norm", "skipped", *TERMS):
        if series := run.metrics.get(f"train/{name}"):
            now[name] = series.last
    speed = {name: series.last for name, series in run.speed.starting("speed/").items()}
    if rate := run.speed.get("speed/atoms_per_second"):
        speed["atoms_per_second_median"] = float(np.median(rate.values))
    best = run.metrics.get("val/force_ratio_median")
    return {
        "run": str(run.folder),
        "name": run.config.name if run.config else None,
        "finished": run.finished,
        "step": run.step,
        "steps": steps,
        "log_age_seconds": round(run.log_age, 1),
        "processes": next((state.processes for state in run.states if state.processes), None),
        "last": now,
        "speed": speed,
        "validation": {
            "force_ratio_median": best.last if best else None,
            "force_ratio_worst": _last(run.metrics.get("val/force_ratio_worst")),
            "step": int(best.steps[-1]) if best else None,
            "best_force_ratio_median": float(np.nanmin(best.values))
            if best and np.isfinite(best.values).any()
            else None,
        },
        "heads": {head: _head(run, head) for head in run.heads},
        "elements": run.element_errors(),
        "states": [
            {"name": s.name, "step": s.step, "processes": s.processes, "megabytes": round(s.megabytes, 3)}
            for s in run.states
        ],
    }


def _head(run: Run, head: str) -> dict[str, float]:
    """Return the loss of each term, the mean of the last five rows, and the last validation errors of a head."""
    values = {}
    for term in TERMS:
        if series := run.metrics.get(f"loss/{head}/{term}"):
            values[f"loss_{term}"] = series.recent
    for name, series in run.metrics.starting(f"val/{head}/").items():
        values[name] = series.last
    return values


def _last(series: Series | None) -> float | None:
    return series.last if series else None
