"""What is measured between two entries of the log: losses of each head, gradients of each module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lam import keys
from lam.train.losses import TERMS, label_masks
from lam.train.processes import sum_over_processes


class StepMeter:
    """Sums over steps and processes, kept through a resume.

    Args:
        heads: names of the model's heads.
    """

    def __init__(self, heads: Sequence[str]) -> None:
        self.heads = list(heads)
        self._sums = torch.zeros(2, len(self.heads), len(TERMS), dtype=torch.float64)

    def add(self, batch: dict[str, Tensor], terms: Tensor, head_factors: Tensor | None = None) -> None:
        """Add a step of this process.

        Args:
            batch: the structures.
            terms: loss terms of each, (terms, G), float64; those that are not finite are left out.
            head_factors: factor of each head's loss, (T,): labels of heads with 0 are left out.
        """
        self._sums = self._sums.to(terms.device)
        finite = torch.isfinite(terms).all(0)
        task = batch[keys.TASK][finite]
        self._sums[0].index_add_(0, task, terms.T[finite])
        self._sums[1].index_add_(0, task, label_masks(batch, head_factors).T[finite].double())

    def take(self) -> dict[str, float]:
        """Return the mean loss of each head and term since the last call, over all processes; start anew."""
        sums, counts = sum_over_processes(self._sums.clone()).cpu()
        self._sums.zero_()
        return {
            f"loss/{head}/{term}": float(sums[h, t] / counts[h, t])
            for h, head in enumerate(self.heads)
            for t, term in enumerate(TERMS)
            if counts[h, t]
        }

    def state(self) -> dict[str, Any]:
        """Return the sums of all processes; every process must call this."""
        return {"sums": sum_over_processes(self._sums.clone()).cpu()}

    def restore(self, state: dict[str, Any], *, first: bool) -> None:
        """Take over what :meth:`state` returned: the first process all of it, the others nothing."""
        if state["sums"].shape == self._sums.shape:
            self._sums = state["sums"].clone() if first else torch.zeros_like(self._sums)


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Return the norm of the gradient of each part of a model, by the name of the part."""
    squares: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parts = name.split(".")
            # Layers are told apart, what is in them is not.
            place = next((k for k, word in enumerate(parts) if word.isdecimal()), 1 if parts[0] == "backbone" else 0)
            part = ".".join(parts[: place + 1])
            squares.setdefault(part, []).append(parameter.grad.detach().double().square().sum())
    return {f"gradient/{part}": float(torch.stack(values).sum().sqrt()) for part, values in squares.items()}
