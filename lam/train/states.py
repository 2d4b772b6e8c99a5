"""Resumable states of a training: when they are written, and which of them are kept."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from lam.errors import LamWarning

BEST = "best.ckpt"
_EARLIER = "step-*.ckpt"


class ResumableState(Checkpoint):
    """Writes ``last.ckpt``, from which a training goes on as if it had never stopped.

    Where a step is validated the state is written after the validation, so that a kill in between
    repeats the step and with it the validation: nothing is missing in the log. The state with the best
    validation has the name ``best.ckpt`` too, earlier ones ``step-NNN.ckpt``: names of one file where the
    file system has hard links. A state that cannot be written is reported, and the training goes on.

    Args:
        path: the file; it is replaced in one step.
        every: steps between states. One more is written after the last step.
        validate_every: steps between validations; None if there are none.
        keep: how many of the last states are kept.
    """

    def __init__(self, path: Path, every: int, validate_every: int | None, keep: int = 1) -> None:
        super().__init__()
        self.path, self.every, self.validate_every, self.keep = path, every, validate_every, keep
        self.best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation error so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best validation error so far."""
        self.best = state_dict.get("best")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Write the state if it is due and the step is not validated."""
        if not (self.validate_every and trainer.global_step % self.validate_every == 0):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the state of a step that is validated, if it is due or the best so far."""
        error = pl_module.validation_error
        better = error is not None and math.isfinite(error) and (self.best is None or error < self.best)
        if better:
            self.best = error
        self._save(trainer, best=better)

    def _save(self, trainer: pl.Trainer, *, best: bool = False) -> None:
        step = trainer.global_step
        due = bool(step) and (step % self.every == 0 or step == trainer.max_steps)
        if not (due or best):
            return
        before = _identity(self.path)
        trainer.save_checkpoint(self.path)
        if not trainer.is_global_zero or _identity(self.path) == before:
            return
        try:
            self._keep(step, best=best)
        except OSError as error:
            warnings.warn(
                f"The state of step {step} could not be kept under a second name ({error}); the training goes on.",
                LamWarning,
                stacklevel=2,
            )

    def _keep(self, step: int, *, best: bool) -> None:
        """Give the state that was just written its second names; delete the oldest ones."""
        if best:
            _second_name(self.path, self.path.with_name(BEST))
        if self.keep > 1:
            _second_name(self.path, self.path.with_name(f"step-{step:09d}.ckpt"))
            # By age, not by step: who went back to an earlier state keeps what came after.
            states = sorted(self.path.parent.glob(_EARLIER), key=lambda file: (file.stat().st_mtime_ns, file.name))
            for old in states[: -self.keep]:
                old.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _second_name(path: Path, name: Path) -> None:
    """Let a file be found under another name as well, replacing what has that name."""
    temporary = name.with_name(f".{name.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # no hard links here
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)
