"""The Lightning module: one optimiser step, validation per data set, resumable state."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lam import keys
from lam.errors import LamError
from lam.model import Potential
from lam.train.config import LossSection, OptimizerSection
from lam.train.losses import TERMS, combine, loss_sums
from lam.train.schedule import build_optimizer, warmup_stable_decay
from lam.train.validation import ErrorSums

Describe = Callable[[int, int], str]
"""From (task, structure id) to the name of a structure that a user can find."""


class TrainingModule(pl.LightningModule):
    """Trains a :class:`~lam.model.Potential` on batches of mixed tasks.

    Args:
        model: the potential.
        loss: weights of the loss terms.
        optimizer: optimiser and schedule.
        steps: number of steps, for the schedule.
        force_scale: force scale of each head, eV/Angstrom, (T,).
        describe: names structures in error messages.
    """

    def __init__(
        self,
        model: Potential,
        *,
        loss: LossSection,
        optimizer: OptimizerSection,
        steps: int,
        force_scale: Tensor,
        describe: Describe,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.optimizer_settings = optimizer
        self.steps = steps
        self.describe = describe
        self.register_buffer("force_scale", force_scale.to(model.dtype), persistent=False)
        self.errors = ErrorSums(model.head_names)

    # -- one step ------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the loss of this process's share of the global batch."""
        output = self.model(batch, create_graph=True)
        sums, counts = loss_sums(output, batch, self.force_scale, self.model.energy_scale(self.force_scale.dtype))
        self._require_finite(sums, batch)
        total = self._over_processes(torch.stack([counts[term] for term in TERMS]))
        counts = dict(zip(TERMS, total, strict=True))
        # DDP averages gradients over processes; every share is normalised by the global counts.
        loss = combine(sums, counts, self.loss.model_dump()) * self.trainer.world_size
        if self.trainer.global_step % self.trainer.log_every_n_steps == 0:
            self._log_terms(sums, counts, batch)
        return loss

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of the parameters only: none of the positions' second derivatives."""
        loss.backward(inputs=[parameter for parameter in self.parameters() if parameter.requires_grad])

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, **_: Any
    ) -> None:
        """Clip by norm; gradients that are not finite end the training before they reach the weights."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.optimizer_settings.gradient_clip)
        if not torch.isfinite(norm):
            raise LamError(
                f"The gradient of step {self.trainer.global_step} is not finite although the loss is; "
                f"structures of this process's batch: {'; '.join(self._last_names[:20])}."
            )
        if self.trainer.global_step % self.trainer.log_every_n_steps == 0:
            self.log("train/gradient_norm", norm)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Remember which structures the batch holds (cheap: two small tensors)."""
        self._last_ids = (batch[keys.TASK], batch[keys.STRUCTURE_ID])

    @property
    def _last_names(self) -> list[str]:
        task, structure = self._last_ids
        return [self.describe(int(t), int(s)) for t, s in zip(task, structure, strict=True)]

    def _require_finite(self, sums: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
        per_structure = torch.stack([sums[term].detach() for term in TERMS])
        bad = ~torch.isfinite(per_structure).all(0)
        if not bool(bad.any()):
            return
        names = [name for name, is_bad in zip(self._last_names, bad.tolist(), strict=True) if is_bad]
        raise LamError(
            f"Step {self.trainer.global_step} gives a loss that is not finite for {len(names)} structure(s): "
            f"{'; '.join(names[:20])}. Check them with `lam data check`, or lower the learning rate."
        )

    def _over_processes(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum") if self.trainer.world_size > 1 else values

    def _log_terms(self, sums: dict[str, Tensor], counts: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
        values = self._over_processes(torch.stack([sums[term].detach().sum() for term in TERMS]))
        for term, value in zip(TERMS, values, strict=True):
            self.log(f"train/{term}", value / counts[term].clamp(min=1.0))
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("train/atoms", float(batch[keys.N_ATOMS].sum()))

    # -- validation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the errors of the last validation."""
        self.errors.reset(self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Add a batch to the errors of its data sets."""
        self.errors.add(self.model(batch), batch)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of every data set and their median."""
        self.errors.sums = self._over_processes(self.errors.sums)
        self.log_dict(self.errors.summary(), rank_zero_only=True)

    # -- optimiser and state -------------------------------------------------------------------

    def configure_optimizers(self) -> dict[str, Any]:
        """Build AdamW and its schedule."""
        settings = self.optimizer_settings
        optimizer = build_optimizer(self.named_parameters(), settings)
        schedule = LambdaLR(
            optimizer, lambda step: warmup_stable_decay(step, self.steps, settings.warmup_steps, settings.decay)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random number generators."""
        checkpoint["random"] = {
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002 - libraries draw from the legacy generator
            "python": random.getstate(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the random number generators."""
        torch.set_rng_state(checkpoint["random"]["torch"])
        np.random.set_state(checkpoint["random"]["numpy"])  # noqa: NPY002
        random.setstate(checkpoint["random"]["python"])
