"""The Lightning module: one optimiser step, validation per data set, resumable state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from lam import keys
from lam.errors import LamError, LamWarning
from lam.model import Potential
from lam.model.kernels import gradients_of
from lam.train.accumulation import Accumulated, accumulate
from lam.train.config import FaultsSection, LossSection, OptimizerSection
from lam.train.faults import Fault, Watch
from lam.train.losses import TERMS, combine, label_masks, loss_sums
from lam.train.meter import StepMeter, gradient_norms
from lam.train.processes import gather_lines, sum_gradients, sum_over_processes
from lam.train.randomness import random_state, set_random_state
from lam.train.schedule import build_optimizer, decays, warmup_stable_decay
from lam.train.validation import ErrorSums, validation_error

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

    Every process works through its share of the global batch, in parts if asked for or where memory is short; then
    the gradients are summed over the processes, once, and judged: what is not finite or jumps is skipped.

    Args:
        model: the potential.
        loss: the loss.
        final_loss: the loss while the learning rate decays; by default the same.
        optimizer: optimiser and schedule.
        steps: number of steps, for the schedule.
        force_scale: force scale of each head, eV/Angstrom, (T,).
        describe: names structures in messages.
        faults: what to do about steps that go wrong; None: they end the training.
        parts: into how many parts a share is divided.
        recompute: save memory by calculating layers twice.
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
        faults: FaultsSection | None = None,
        parts: int = 1,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        model.backbone.recompute = recompute
        self.loss, self.final_loss = loss, final_loss or loss
        self.optimizer_settings = optimizer
        self.steps, self.parts = steps, parts
        self.describe = _Shared(describe)
        self.register_buffer("force_scale", force_scale.to(model.dtype), persistent=False)
        # Of the loss before and in the decay.
        factors = torch.stack([_head_factors(setting, model) for setting in (self.loss, self.final_loss)])
        self.register_buffer("head_factors", factors, persistent=False)
        self.errors = ErrorSums(model.head_names)
        self.validation_error: float | None = None
        """Of the last validation, by which states are compared."""
        self.watch = Watch(faults)
        self.meter = StepMeter(model.head_names)
        self._random: dict[str, Any] | None = None
        self._trainable: list[Tensor] = []
        self._unsynchronised = ExitStack()

    # -- one step ------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Take one step on this process's share of the global batch."""
        optimizer, setting = self.optimizers(), self._loss_now()
        optimizer.zero_grad(set_to_none=True)
        counts = dict(
            zip(TERMS, sum_over_processes(label_masks(batch, self._factors_now).double().sum(1)), strict=True)
        )
        done = accumulate(
            batch, self.parts, lambda part: self._differentiate(part, counts, setting), self._trainable, len(TERMS)
        )
        self._report_memory(done, batch)
        sum_gradients(self._trainable)
        local = done.terms.double()
        sums = sum_over_processes(torch.cat([local.sum(1), batch[keys.N_ATOMS].sum().double()[None]]))
        errors = dict(zip(TERMS, sums.tolist(), strict=False))
        loss = sum(setting.weights[t] * errors[t] / max(float(counts[t]), 1.0) for t in TERMS)
        norms = gradient_norms(self.model) if self._logs_now else {}
        norm = torch.nn.utils.clip_grad_norm_(self._trainable, self.optimizer_settings.gradient_clip, foreach=True)
        fault = self.watch.judge(loss, float(norm))
        if fault:
            self._skip(fault, local, counts, setting)
        self.meter.add(batch, local, self._factors_now)
        if self._logs_now:
            row = self._row(errors, counts, float(norm), sums[-1].item()) | norms | self.meter.take()
            # Written here and not through self.log, which writes after the resumable state: a kill between
            # the two would lose the row.
            for logger in self.trainer.loggers:
                logger.log_metrics(row, step=self.trainer.global_step)
        optimizer.step()
        self.lr_schedulers().step()

    def _differentiate(self, part: dict[str, Tensor], counts: dict[str, Tensor], setting: LossSection) -> Tensor:
        """Add the gradient of a part; return the loss terms of its structures."""
        # The derivative with respect to the strain is left out where nothing is learned from it.
        output = self.model(part, create_graph=True, stress=bool(part[keys.MASK_STRESS].any()))
        energy_scale = self.model.energy_scale(self.force_scale.dtype)
        sums = loss_sums(output, part, self.force_scale, energy_scale, setting, self._factors_now)
        self.manual_backward(combine(sums, counts, setting.weights))
        return torch.stack([sums[term].detach() for term in TERMS])

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Accumulate gradients of the parameters only: none of the positions' second derivatives."""
        # The kernels would compute those of the vectors, too.
        with gradients_of(vectors=False, fixed_senders=True):
            loss.backward(inputs=self._trainable)

    def _skip(self, fault: Fault, terms: Tensor, counts: dict[str, Tensor], setting: LossSection) -> None:
        """Leave a step out, or end the training; the structures behind it are named.

        Raises:
            LamError: if faults are fatal.
        """
        weight = torch.tensor([setting.weights[t] / max(float(counts[t]), 1.0) for t in TERMS], device=terms.device)
        share = (terms * weight.double()[:, None]).sum(0)
        if fault.blame == "largest":
            bad = share > 0.1 * sum_over_processes(share.sum())  # a tenth of the step and more
        else:
            bad = torch.full_like(share, fault.blame == "all", dtype=torch.bool) | ~torch.isfinite(share)
        names = gather_lines(self._names(bad.nonzero().flatten().tolist()))
        text = fault.describe(self.trainer.global_step, names)
        if self.watch.fatal:
            raise LamError(f"{text} Check them with `lam data check`, or lower the learning rate.")
        if self.trainer.is_global_zero:
            warnings.warn(f"{text} The step is skipped.", LamWarning, stacklevel=2)
        for parameter in self._trainable:
            parameter.grad = None

    def _report_memory(self, done: Accumulated, batch: dict[str, Tensor]) -> None:
        if done.halved:
            atoms = int(batch[keys.N_ATOMS].sum())
            warnings.warn(
                f"Step {self.trainer.global_step}: {atoms} atoms did not fit in memory and were worked through in "
                f"{done.halved + 1} parts; lower batch.max_atoms, or set batch.parts, to avoid the lost time.",
                LamWarning,
                stacklevel=2,
            )
        if done.left_out:
            names = "; ".join(self._names(done.left_out))
            warnings.warn(
                f"Step {self.trainer.global_step}: left out, because each needs more memory than there is: {names}.",
                LamWarning,
                stacklevel=2,
            )

    def on_train_start(self) -> None:
        """List what learns: looking through the modules at every step takes time."""
        self._trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        model = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            # DDP would sum gradients during the backward pass, before it is known whether it must be repeated.
            self._unsynchronised.enter_context(model.no_sync())

    def on_train_end(self) -> None:
        """Give the model back as it was."""
        self._unsynchronised.close()

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Remember which structures the batch holds (cheap: two small tensors)."""
        self._last_ids = (batch[keys.TASK], batch[keys.STRUCTURE_ID])
        if self._random is not None:  # only now: starting the data loaders draws from the generators too
            set_random_state(self._random)
            self._random = None

    @property
    def _in_decay(self) -> bool:
        return decays(self.trainer.global_step, self.steps, self.optimizer_settings.decay)

    def _loss_now(self) -> LossSection:
        return self.final_loss if self._in_decay else self.loss

    @property
    def _factors_now(self) -> Tensor:
        return self.head_factors[int(self._in_decay)]

    @property
    def _logs_now(self) -> bool:
        return (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0

    def _names(self, structures: Sequence[int]) -> list[str]:
        task, structure = self._last_ids
        return [self.describe(int(task[k]), int(structure[k])) for k in structures]

    def _row(self, errors: dict[str, float], counts: dict[str, Tensor], norm: float, atoms: float) -> dict[str, float]:
        """Return what is logged of a step, over all processes."""
        # An error of no labels is not zero: it is left out.
        row = {f"train/{term}": errors[term] / float(counts[term]) for term in TERMS if counts[term]}
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return row | {
            "train/learning_rate": rate, "train/atoms": atoms, "train/gradient_norm": norm,
            "train/skipped": float(self.watch.skipped),
        }  # fmt: skip

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
        self.errors.sum_over_processes()
        summary = self.errors.summary()
        self.validation_error = validation_error(summary)
        self.log_dict(summary, rank_zero_only=True)

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
        """Keep the state of the random number generators, what is usual, and how many processes shared a batch."""
        checkpoint["random"] = random_state()
        checkpoint["processes"] = self.trainer.world_size
        checkpoint["watch"] = self.watch.state()
        checkpoint["meter"] = self.meter.state()

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
                f"This training ran on {processes} process(es) and goes on with {self.trainer.world_size}: with the "
                "same budget for each of them its global batch changes. It goes on behind the last structure seen.",
                LamWarning,
                stacklevel=2,
            )
        self._random = checkpoint["random"]
        if "watch" in checkpoint:
            self.watch.restore(checkpoint["watch"])
            self.meter.restore(checkpoint["meter"], first=self.trainer.is_global_zero)

    def _require_same_model(self, before: dict[str, Tensor]) -> None:
        now = self.state_dict()
        if {name: tensor.shape for name, tensor in before.items()} != {name: t.shape for name, t in now.items()}:
            raise LamError("The training state is of another model; choose another 'output', or remove the state.")
        if not all(torch.allclose(before[name], now[name].cpu(), rtol=1e-7, atol=1e-5) for name in _TABLES):
            raise LamError(
                "The data have changed since the training began (they give other reference energies or scales); "
                "restore them, choose another 'output', or remove the state to start anew."
            )


def _head_factors(loss: LossSection, model: Potential) -> Tensor:
    """Return the factor of each head's loss, (T,).

    Raises:
        LamError: if the loss names a head that the model does not have.
    """
    for name in loss.heads:
        model.head_index(name)
    return torch.tensor([loss.heads.get(name, 1.0) for name in model.head_names], dtype=model.dtype)
