"""The Lightning module: one optimiser step, validation per data set, resumable state."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lam import keys
from lam.errors import LamError, LamWarning
from lam.model import Potential
from lam.model.kernels import gradients_of
from lam.train.config import LossSection, OptimizerSection
from lam.train.losses import TERMS, combine, loss_sums
from lam.train.randomness import random_state, set_random_state
from lam.train.schedule import build_optimizer, decays, warmup_stable_decay
from lam.train.validation import ErrorSums

Describe = Callable[[int, int], str]
"""From (task, structure id) to the name of a structure that a user can find."""

_TABLES = ("model.reference_energies.value", "model.energy_scale.value")


class _Shared:
    """Calls a function that a copy of the module shares: the average need not copy the whole data set."""

    def __init__(self, function: Describe) -> None:
        self.function = function

    def __call__(self, task: int, structure: int) -> str:
        return self.function(task, structure)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


class TrainingModule(pl.LightningModule):
    """Trains a :class:`~lam.model.Potential` on batches of mixed tasks.

    Args:
        model: the potential.
        loss: the loss.
        final_loss: the loss while the learning rate decays; by default the same.
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
        final_loss: LossSection | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss, self.final_loss = loss, final_loss or loss
        self.optimizer_settings = optimizer
        self.steps = steps
        self.describe = _Shared(describe)
        self.register_buffer("force_scale", force_scale.to(model.dtype), persistent=False)
        self.errors = ErrorSums(model.head_names)
        self._random: dict[str, Any] | None = None
        self._trainable: list[Tensor] = []

    # -- one step ------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the loss of this process's share of the global batch."""
        # The derivative with respect to the strain is left out where nothing is learned from it.
        output = self.model(batch, create_graph=True, stress=bool(batch[keys.MASK_STRESS].any()))
        energy_scale = self.model.energy_scale(self.force_scale.dtype)
        setting = self._loss_now()
        sums, counts = loss_sums(output, batch, self.force_scale, energy_scale, setting)
        self._require_finite(sums, batch)
        total = self._over_processes(torch.stack([counts[term] for term in TERMS]))
        counts = dict(zip(TERMS, total, strict=True))
        # DDP averages gradients over processes; every share is normalised by the global counts.
        loss = combine(sums, counts, setting.weights) * self.trainer.world_size
        if self._logs_now:
            self._row = self._terms(sums, counts, batch)
        return loss

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of the parameters only: none of the positions' second derivatives."""
        # The kernels would compute those of the vectors, too.
        with gradients_of(vectors=False, fixed_senders=True):
            loss.backward(inputs=self._trainable)

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, **_: Any
    ) -> None:
        """Clip by norm; gradients that are not finite end the training before they reach the weights."""
        norm = torch.nn.utils.clip_grad_norm_(self._trainable, self.optimizer_settings.gradient_clip, foreach=True)
        if not torch.isfinite(norm):
            raise LamError(
                f"The gradient of step {self.trainer.global_step} is not finite although the loss is; "
                f"structures of this process's batch: {'; '.join(self._last_names[:20])}."
            )
        if self._logs_now:
            # Written here and not through self.log, which writes after the resumable state: a kill between
            # the two would lose the row.
            for logger in self.trainer.loggers:
                logger.log_metrics(self._row | {"train/gradient_norm": float(norm)}, step=self.trainer.global_step)

    def on_train_start(self) -> None:
        """List what learns: looking through the modules at every step takes time."""
        self._trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Remember which structures the batch holds (cheap: two small tensors)."""
        self._last_ids = (batch[keys.TASK], batch[keys.STRUCTURE_ID])
        if self._random is not None:  # only now: starting the data loaders draws from the generators too
            set_random_state(self._random)
            self._random = None

    def _loss_now(self) -> LossSection:
        fall = decays(self.trainer.global_step, self.steps, self.optimizer_settings.decay)
        return self.final_loss if fall else self.loss

    @property
    def _logs_now(self) -> bool:
        return (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0

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

    def _terms(self, sums: dict[str, Tensor], counts: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, float]:
        """Return what is logged of a step, over all processes."""
        local = [*(sums[term].detach().sum() for term in TERMS), batch[keys.N_ATOMS].sum().to(sums["energy"].dtype)]
        *errors, atoms = self._over_processes(torch.stack(local)).tolist()
        # An error of no labels is not zero: it is left out.
        found = {term: error / float(counts[term]) for term, error in zip(TERMS, errors, strict=True) if counts[term]}
        row = {f"train/{term}": error for term, error in found.items()}
        return row | {"train/learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"], "train/atoms": atoms}

    # -- validation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the errors of the last validation."""
        self.errors.reset(self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Add a batch to the errors of its data sets."""
        if self.trainer.datamodule.validation_is_padding:
            return  # another process counts this batch
        self.errors.add(self.model(batch), batch)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of every data set and their median."""
        self.errors.sums = self._over_processes(self.errors.sums)
        self.log_dict(self.errors.summary(), rank_zero_only=True)

    # -- optimiser and state -------------------------------------------------------------------

    def configure_optimizers(self) -> dict[str, Any]:
        """Build the optimiser and its schedule."""
        settings = self.optimizer_settings
        optimizer = build_optimizer(self.named_parameters(), settings)
        schedule = LambdaLR(
            optimizer, lambda step: warmup_stable_decay(step, self.steps, settings.warmup_steps, settings.decay)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random number generators, and how many processes shared a batch."""
        checkpoint["random"] = random_state()
        checkpoint["processes"] = self.trainer.world_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the state belongs to this model and data; restore the generators at the first step.

        Raises:
            LamError: if model or data have changed.
        """
        self._require_same_model(checkpoint["state_dict"])
        for part in ("state_dict", "current_model_state"):
            for table in _TABLES:
                # Equal but for the last bits, where another machine fitted them: as the heads say.
                if part in checkpoint:
                    checkpoint[part][table] = self.state_dict()[table].detach().cpu().clone()
        processes = checkpoint.get("processes", self.trainer.world_size)
        if processes != self.trainer.world_size:
            warnings.warn(
                f"This training ran on {processes} process(es) and goes on with {self.trainer.world_size}: its global "
                "batch changes, and some structures are seen once more or less.",
                LamWarning,
                stacklevel=2,
            )
        self._random = checkpoint["random"]

    def _require_same_model(self, before: dict[str, Tensor]) -> None:
        now = self.state_dict()
        if {name: tensor.shape for name, tensor in before.items()} != {name: t.shape for name, t in now.items()}:
            raise LamError("The training state is of another model; choose another 'output', or remove the state.")
        if not all(torch.allclose(before[name], now[name].cpu(), rtol=1e-7, atol=1e-5) for name in _TABLES):
            raise LamError(
                "The data have changed since the training began (they give other reference energies or scales); "
                "restore them, choose another 'output', or remove the state to start anew."
            )
