"""What happens around the steps of a training: averaging, a line of progress."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lam.train.logs import CsvLog


class Averaging(WeightAveraging):
    """Exponential moving average of the weights: what is validated and saved.

    A weight that does not change is kept bit by bit, as fine-tuning a head alone promises; tables are constant
    and taken over once.

    Args:
        decay: of the average, per step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False)
        self.decay = decay
        self._applied = False
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None

    @property
    def state_key(self) -> str:
        """Name of this callback's part of a training state."""
        return "EMAWeightAveraging"

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Add the weights after a step to the average: one call for all of them."""
        if trainer.global_step <= self._latest_update_step:
            return
        average = self._average_model
        if self._pairs is None:
            self._pairs = (
                [p.detach() for p in average.module.parameters()],
                [p.detach() for p in pl_module.parameters()],
            )
            with torch.no_grad():
                for kept, now in zip(average.module.buffers(), pl_module.buffers(), strict=True):
                    kept.copy_(now)
        if average.n_averaged == 0:
            torch._foreach_copy_(*self._pairs)
        else:
            torch._foreach_lerp_(*self._pairs, 1.0 - self.decay)
        average.n_averaged += 1
        self._latest_update_step = trainer.global_step

    def tensors(self) -> list[Tensor]:
        """Return the averaged weights, while a training runs."""
        return list(self._average_model.module.parameters())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average into the model."""
        super().on_train_end(trainer, pl_module)
        self._applied = True

    def apply(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put the average into the model, unless that is done.

        A training that was killed after its last step, before its result was written, resumes with no
        step to do; Lightning then ends without calling :meth:`on_train_end`.
        """
        if not self._applied:
            self.on_train_end(trainer, module)


class Progress(pl.Callback):
    """Prints where the training starts, and a line after each validation.

    Args:
        steps: steps of the whole training.
        csv: the CSV log, cut where the training resumes.
    """

    def __init__(self, steps: int, csv: CsvLog) -> None:
        self.steps, self.csv = steps, csv

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say from which step the training goes on."""
        self.csv.resume(trainer.global_step)
        self._begin, self._started = trainer.global_step, time.monotonic()
        if trainer.is_global_zero and trainer.global_step:
            print(f"Going on from step {trainer.global_step} of {self.steps}", flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how far the training is."""
        if not trainer.is_global_zero:
            return
        done = trainer.global_step
        per_step = (time.monotonic() - self._started) / max(done - self._begin, 1)
        values = trainer.callback_metrics
        text = f"step {done} of {self.steps}"
        if "val/force_ratio_median" in values:
            ratio = float(values["val/force_ratio_median"])
            text += f": validation force error {ratio:.3f} of that of zero forces (median of the heads)"
        rmse = [float(value) for name, value in values.items() if name.endswith("/force_rmse")]
        if len(rmse) == 1:
            text += f", RMSE {1000 * rmse[0]:.1f} meV/A"
        print(f"{text}, {per_step:.2f} s per step, {_span(per_step * (self.steps - done))} to go", flush=True)


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
