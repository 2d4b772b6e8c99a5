"""The settings of a training: one schema with defaults, documentation and validation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lam.config import Section
from lam.data.balance import ATOM_COST
from lam.model import ModelConfig, preset


class BatchSection(Section):
    """How structures become batches."""

    max_atoms: int = Field(1024, ge=1)
    """Atoms per batch and process."""
    max_edges: int = Field(65536, ge=1)
    """Edges (pairs within the cutoff, counted from both ends) per batch and process."""
    temperature: float = Field(0.5, ge=0.0, le=1.0)
    """A data set's share of the atoms seen is proportional to weight * (its atoms)^temperature."""
    max_repeats: float | None = Field(None, gt=0)
    """Most times that a structure is seen in the whole training; caps the share of small data sets."""
    workers: int = Field(1, ge=0)
    """Processes that read data and build neighbour lists, per training process; 0 does it in line."""
    atom_cost: float = Field(ATOM_COST, ge=0)
    """Time of an atom in units of that of an edge, by which the work of a step is divided among processes."""
    parts: int = Field(1, ge=1)
    """Parts in which a process works through its share of a step, one after the other, to save memory: gradients
    are accumulated, and the result is the same. A part for which memory does not suffice is halved in any case."""
    recompute: bool = False
    """Activation checkpointing: keep only what goes from layer to layer and calculate the rest twice. Saves memory
    and costs time; on CPUs also the faster passes for training, which keep little anyway."""
    cache_mb: float = Field(256.0, ge=0)
    """Room for graphs that are kept in memory once built, MB per process that reads data: for small data sets."""


class OptimizerSection(Section):
    """AdamW or Muon with a warm-up, stable, decay schedule."""

    kind: Literal["adamw", "muon"] = "adamw"
    """``muon`` orthogonalises the steps of the hidden matrices, and leaves the rest to AdamW."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(1e-3, ge=0)
    """Decoupled weight decay of matrices (not of embeddings, biases, gains)."""
    beta2: float = Field(0.98, gt=0, lt=1)
    """Decay of AdamW's second moment."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Decay of Muon's average of the gradients."""
    matrix_rate: float = Field(1.0, gt=0)
    """Learning rate of Muon's matrices over that of the rest; at 1 the entries' steps are of AdamW's size."""
    warmup_steps: int = Field(200, ge=0)
    """Steps over which the rate rises from zero."""
    decay: float = Field(0.4, ge=0, le=1)
    """Fraction of the steps, the last ones, over which the rate falls to zero (as 1 - sqrt)."""
    gradient_clip: float = Field(10.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(0.999, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is evaluated and saved."""
    shard: bool = False
    """Divide the optimiser's state among the processes, to save memory with a large model. The result is the same."""


Kind = Literal["norm", "mae", "mse", "huber"]


class LossSection(Section):
    """Weights and kinds of the loss terms, each in units of its head's scale (see lam/train/losses.py)."""

    energy: float = Field(2.0, ge=0)
    """Weight of the error of the energy per atom."""
    forces: float = Field(1.0, ge=0)
    """Weight of the force error."""
    stress: float = Field(0.5, ge=0)
    """Weight of the error of the stress times the volume per atom."""
    energy_kind: Kind = "norm"
    """What is made of an energy error: ``norm`` and ``mae`` its size, ``mse`` its square, ``huber`` in between."""
    forces_kind: Kind = "norm"
    """What is made of a force error: ``norm`` its length, ``mae`` the mean size of its components, ``mse`` the
    squared length, ``huber`` the squared length below ``huber_delta`` and the length above."""
    stress_kind: Kind = "norm"
    """What is made of a stress error, as for forces."""
    huber_delta: float = Field(0.05, gt=0)
    """Error, in units of the head's scale, up to which ``huber`` is quadratic."""
    heads: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Factors of the loss of single heads, by name, at least 0; 1 for those not named.
    0 leaves a head's labels out."""

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term."""
        return {"energy": self.energy, "forces": self.forces, "stress": self.stress}

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each term."""
        return {"energy": self.energy_kind, "forces": self.forces_kind, "stress": self.stress_kind}


class FaultsSection(Section):
    """What happens when a step, or a structure, goes wrong."""

    spike: float = Field(100.0, ge=0)
    """A step whose loss is more than this many times the median of the last 200 is skipped; 0: never."""
    skip: int = Field(10, ge=0)
    """Steps that may be skipped in a row, because loss or gradient is not finite or jumps, before the training goes
    back to its last good weights; 0: the first such step ends the training."""
    rollbacks: int = Field(3, ge=0)
    """How often it may go back without a good state in between before it ends."""
    damaged: Literal["fail", "skip"] = "fail"
    """What happens when a structure cannot be read from its shard: the training ends, or goes on without it."""


class CurriculumStage(Section):
    """A part of the training with a mixture of its own."""

    until: float = Field(gt=0, le=1)
    """Where it ends, as a fraction of the steps (about: it is a number of structures that is counted)."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Factors of the shares of data sets, by name, not negative; 1 for those not named. 0 leaves a data set out."""


class LogSection(Section):
    """What is written while training; a CSV log always is."""

    every: int = Field(50, ge=1)
    """Steps between log entries."""
    validate_every: int = Field(2000, ge=1)
    """Steps between validations."""
    validation_structures: int = Field(24, ge=1)
    """Largest number of structures of each data set that a validation uses."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between resumable checkpoints."""
    keep: int = Field(1, ge=1)
    """How many of the last resumable checkpoints are kept, besides the best."""
    tensorboard: bool = False
    """Log to TensorBoard too: files below ``output``."""
    wandb: Literal["none", "offline", "online"] = "none"
    """Log to Weights & Biases too; "offline" writes files to sync later with `wandb sync`."""
    wandb_project: str = "lam"
    """Project of the Weights & Biases run."""


class PretrainConfig(Section):
    """A pretraining: which data, which model, how long."""

    name: str = "lam-model"
    """Name of the resulting checkpoint."""
    output: str
    """Folder for logs, resumable checkpoints and the result. An unfinished training there is resumed."""
    manifest: str
    """Manifest (YAML) that names the data sets."""
    preset: str = "nano"
    """Architecture preset: nano, small or base."""
    model: dict[str, Any] = {}
    """Changes to the preset's architecture (see ModelConfig)."""
    default_heads: list[str] = []
    """Heads to prefer, in this order, where a user of the model names none."""
    steps: int = Field(10000, ge=1)
    """Number of optimiser steps. An unfinished training can be resumed with another number."""
    refit_structures: int = Field(0, ge=0)
    """Training structures of each data set to which its reference energies are fitted once more at the end; 0: none."""
    seed: int = 0
    """Seed of the weights and of the order of the data."""
    precision: Literal["float32", "float64"] = "float32"
    """Precision of weights and arithmetic; energies are summed in float64 in any case."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to train."""
    batch: BatchSection = BatchSection()
    optimizer: OptimizerSection = OptimizerSection()
    loss: LossSection = LossSection()
    curriculum: list[CurriculumStage] = []
    """Parts of the training with mixtures of their own, in order; the last one ends at 1. Empty: one mixture."""
    faults: FaultsSection = FaultsSection()
    final_loss: dict[str, Any] = {}
    """Changes to ``loss`` while the learning rate decays, e.g. a larger weight of the energy."""
    log: LogSection = LogSection()

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, name: str) -> str:
        if not name or name.startswith(".") or any(c in name for c in "/\\:"):
            raise ValueError("must be usable as the name of a folder")
        return name

    def loss_of_decay(self) -> LossSection:
        """Return the loss while the learning rate decays: ``loss`` with the changes of ``final_loss``.

        Raises:
            LamError: for an unknown or wrong key.
        """
        return LossSection.parse(self.loss.to_dict() | self.final_loss, where="the section 'final_loss'")

    def model_config_of_run(self) -> ModelConfig:
        """Return the architecture: the preset with this run's changes.

        Raises:
            LamError: for an unknown preset or key.
        """
        values = preset(self.preset).to_dict() | self.model
        return ModelConfig.parse(values, where="the section 'model'")
