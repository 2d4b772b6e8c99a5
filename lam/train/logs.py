"""Logs of a training: CSV files that survive kills and resumes; Weights & Biases and TensorBoard when asked."""

from __future__ import annotations

import csv
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lam.atomic_write import atomic_file
from lam.errors import LamError, LamWarning

STEP = "step"


class CsvLog(Logger):
    """A CSV file with a row for each logged step; columns appear as they are first needed.

    Rows are appended as they come, so a killed training keeps its log. A resumed one goes on in the same
    file: rows from the step where it resumes on are dropped first, because they will be written again.
    ``step`` counts optimiser steps done, 0 before the first.

    Args:
        path: the file; its folder is made when the first row is written.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []
        self._waiting: list[dict[str, Any]] = []
        self._failed = False

    @property
    def name(self) -> str:
        """Name of the log, as Lightning wants it."""
        return self.path.stem

    @property
    def version(self) -> str:
        """There is one version: the file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the settings are in a file of their own."""

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Keep the rows up to optimiser step ``step``, drop later ones; with 0 the log starts anew."""
        if step == 0:
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as handle:
            self._columns = list(csv.DictReader(handle).fieldnames or [])
        self._rewrite([row for row in self._rows() if int(row[STEP]) <= step])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        row: dict[str, Any] = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        # Lightning counts the step that is under way; the log counts steps done.
        row = {STEP: (-1 if step is None else step) + 1} | row
        self._waiting.append(row)
        try:
            self._write()
        except OSError as error:
            if not self._failed:
                warnings.warn(
                    f"The log '{self.path}' could not be written ({error}); its rows are kept in memory and written "
                    "when that is possible again.",
                    LamWarning,
                    stacklevel=2,
                )
            self._failed = True

    def _write(self) -> None:
        """Append the rows that wait; rewrite the file for new columns, or if a row may be cut off."""
        new = [key for row in self._waiting for key in row if key not in self._columns]
        if new or self._failed:
            self._columns += list(dict.fromkeys(new))
            self._rewrite([*self._rows(), *self._waiting])
        else:
            with open(self.path, "a", newline="", encoding="utf-8") as handle:
                csv.DictWriter(handle, self._columns).writerows(self._waiting)
        self._waiting, self._failed = [], False

    def _rows(self) -> list[dict[str, Any]]:
        """Return the whole rows of the file."""
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as handle:
            # A line cut off by a kill has no whole number of columns, or no step.
            return [r for r in csv.DictReader(handle) if None not in r.values() and (r.get(STEP) or "").isdecimal()]

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        with atomic_file(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def wandb_logger(*, name: str, project: str, folder: Path, offline: bool) -> Logger:
    """Return a logger to Weights & Biases; offline, everything it writes is below ``folder``.

    Raises:
        LamError: if the package is not installed.
    """
    if importlib.util.find_spec("wandb") is None:
        raise LamError("log.wandb needs the package wandb: pip install 'lam[wandb]'.")
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    for variable in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        os.environ.setdefault(variable, str((folder / "wandb").resolve()))
    os.environ.setdefault("WANDB_SILENT", "true")
    return WandbLogger(name=name, project=project, save_dir=folder, offline=offline)


def tensorboard_logger(*, folder: Path) -> Logger:
    """Return a logger that writes TensorBoard's files below ``folder``.

    Raises:
        LamError: if the package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None and importlib.util.find_spec("tensorboardX") is None:
        raise LamError("log.tensorboard needs the package tensorboard: pip install 'lam[tensorboard]'.")
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=folder, name="tensorboard", version="")
