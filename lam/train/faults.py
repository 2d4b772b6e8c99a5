"""Steps that go wrong: numbers that are not finite, losses that jump. They are skipped, and undone if they go on.

Every decision follows from sums over all processes, so that all of them take it.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from lam.errors import LamError
from lam.train.config import FaultsSection

if TYPE_CHECKING:
    from lam.train.callbacks import Averaging
    from lam.train.module import TrainingModule

WINDOW = 200
"""Steps whose losses say what is usual."""
_ENOUGH = 50
_NAMED = 10


@dataclass(frozen=True)
class Fault:
    """What is wrong with a step."""

    text: str
    blame: Literal["not finite", "largest", "all"]
    """Which structures to name: those whose loss is not finite, those with most of the loss, or all."""

    def describe(self, step: int, names: Sequence[str]) -> str:
        """Return the sentence that tells of it and names the structures behind it."""
        shown = "; ".join(names[:_NAMED]) + ("; ..." if len(names) > _NAMED else "")
        return f"Step {step}: {self.text}; structure(s): {shown or 'none stands out'}."


class Watch:
    """Judges each step by its loss and gradient.

    Args:
        settings: what counts as a fault; None: anything that is not finite ends the training.
    """

    def __init__(self, settings: FaultsSection | None) -> None:
        self.settings = settings
        self.usual: deque[float] = deque(maxlen=WINDOW)
        self.in_a_row = 0
        self.skipped = 0

    def judge(self, loss: float, gradient_norm: float) -> Fault | None:
        """Return what is wrong with a step; None if nothing is."""
        if not math.isfinite(loss):
            return self._count(Fault("the loss is not finite", "not finite"))
        if not math.isfinite(gradient_norm):
            return self._count(Fault("the gradient is not finite although the loss is", "all"))
        factor = self.settings.spike if self.settings else 0.0
        if factor and len(self.usual) >= _ENOUGH and loss > factor * (usual := statistics.median(self.usual)):
            text = f"the loss is {loss:.3g}, {loss / usual:.0f} times what is usual"
            return self._count(Fault(text, "largest"))
        self.usual.append(loss)
        self.in_a_row = 0
        return None

    def _count(self, fault: Fault) -> Fault:
        self.in_a_row += 1
        self.skipped += 1
        return fault

    @property
    def fatal(self) -> bool:
        """Does a fault end the training?"""
        return self.settings is None or self.settings.skip == 0

    def state(self) -> dict[str, Any]:
        """Return what a training that is resumed must know."""
        return {"usual": list(self.usual), "in_a_row": self.in_a_row, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self.usual = deque(state["usual"], maxlen=WINDOW)
        self.in_a_row, self.skipped = state["in_a_row"], state["skipped"]


class Rollback(pl.Callback):
    """Goes back to the last good weights when too many steps in a row were skipped.

    Weights, averages and the optimiser's state are kept in memory every so many good steps. The data go on from
    where they are: what led to the trouble is not tried again.

    Args:
        averaging: the average of the weights.
        every: steps between copies.
        settings: how many skipped steps in a row are too many, and how often to go back.
    """

    def __init__(self, averaging: Averaging, every: int, settings: FaultsSection) -> None:
        self.averaging, self.every, self.settings = averaging, every, settings
        self._good: dict[str, Any] | None = None
        self._times = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        """Copy what the training begins with."""
        self._copy(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: TrainingModule, *_: Any) -> None:
        """Copy the state if it is good and a copy is due; go back if the steps are bad."""
        watch = pl_module.watch
        if watch.in_a_row == 0:
            if trainer.global_step % self.every == 0:
                self._copy(trainer, pl_module)
                self._times = 0
        elif self.settings.skip and watch.in_a_row >= self.settings.skip:
            self._go_back(trainer, pl_module)

    def _copy(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        self._good = {
            "step": trainer.global_step,
            "weights": [tensor.detach().clone() for tensor in self._tensors(pl_module)],
            # Of a divided optimiser this process's part: the whole would be on every one of them.
            "optimizer": copy.deepcopy(getattr(trainer.optimizers[0], "inner", trainer.optimizers[0]).state_dict()),
        }

    def _go_back(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        step, count = self._good["step"], pl_module.watch.in_a_row
        self._times += 1
        if self._times > self.settings.rollbacks:
            raise LamError(
                f"{count} steps in a row went wrong again, after going back to step {step} {self.settings.rollbacks} "
                "times: look at the structures named above with `lam data check`, or start anew with a lower "
                "optimizer.learning_rate."
            )
        with torch.no_grad():
            torch._foreach_copy_(self._tensors(pl_module), self._good["weights"])
        rate = [group["lr"] for group in trainer.optimizers[0].param_groups]
        trainer.optimizers[0].load_state_dict(copy.deepcopy(self._good["optimizer"]))
        for group, value in zip(trainer.optimizers[0].param_groups, rate, strict=True):
            group["lr"] = value  # the schedule goes on
        pl_module.watch.in_a_row = 0
        if trainer.is_global_zero:
            print(
                f"Step {trainer.global_step}: {count} steps in a row were skipped; back to the weights of step {step}, "
                "on with the data that follow.",
                flush=True,
            )

    def _tensors(self, pl_module: pl.LightningModule) -> list[Tensor]:
        return [*pl_module.parameters(), *self.averaging.tensors()]
