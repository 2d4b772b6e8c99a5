"""The settings of a fine-tune: one schema with defaults, documentation and validation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lam.config import Section
from lam.train.config import LossSection


class FinetuneConfig(Section):
    """How a model is adapted to labelled structures."""

    method: Literal["full", "head"] = "full"
    """``full`` trains every weight; ``head`` trains the new head alone, so old heads stay bitwise as they are."""
    steps: int = Field(1000, ge=0)
    """Number of optimiser steps; 0 only refits the reference energies."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate; by default 3e-3 for ``full``, 1e-2 for ``head`` and 5e-3 from scratch."""
    max_atoms: int = Field(256, ge=1)
    """Atoms per batch."""
    max_edges: int = Field(16384, ge=1)
    """Edges per batch."""
    hold_out: float = Field(0.1, ge=0, lt=0.9)
    """Fraction of the labels held out to measure the error, where no test data is given."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is saved."""
    from_scratch: bool = False
    """Train the same architecture from random weights instead, for comparison."""
    forgetting_structures: int = Field(8, ge=1)
    """Structures of each pretraining data set on which forgetting is measured."""
    loss: LossSection = LossSection()
    """Weights of the loss terms."""
    seed: int = 0
    """Seed of the order of the data (and of the weights from scratch)."""

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 5e-3 if self.from_scratch else {"full": 3e-3, "head": 1e-2}[self.method]
