"""Embeddings of what an atom is (element) and of what its structure is (charge, spin)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChargeSpinEmbedding(nn.Module):
    """Total charge and spin multiplicity as a bias on every atom; zero for a neutral singlet.

    Both are seen as whole and per atom, so that one excess electron on a molecule and on a large cell
    can differ. ``x / (1 + |x|)`` bounds what a value outside the training data can do.

    Args:
        channels: width of the scalar features.
        max_atomic_number: largest atomic number.
    """

    def __init__(self, channels: int, max_atomic_number: int) -> None:
        super().__init__()
        self.linear = nn.Linear(5, channels, bias=False)
        self.element_gain = nn.Embedding(max_atomic_number + 1, channels)
        nn.init.zeros_(self.element_gain.weight)

    def forward(self, charge: Tensor, multiplicity: Tensor, n_atoms: Tensor, batch: Tensor, numbers: Tensor) -> Tensor:
        """Return the bias, (N, channels), from (G,) charges (e), multiplicities (2S + 1) and sizes."""
        charge = charge.to(self.linear.weight.dtype)
        unpaired = multiplicity.to(charge.dtype) - 1.0
        size = n_atoms.to(charge.dtype)
        values = torch.stack([charge, charge.abs(), unpaired, charge / size, unpaired / size], dim=-1)
        values = values / (1.0 + values.abs())
        return self.linear(values)[batch] * (1.0 + self.element_gain(numbers))


class FiLM(nn.Module):
    """Gain and bias of scalar features for each task (Perez et al., arXiv:1709.07871), identity at start.

    One tensor for all tasks, so that every parameter is used in every step whatever tasks a batch has.
    """

    def __init__(self, n_tasks: int, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(n_tasks, channels))
        self.bias = nn.Parameter(torch.zeros(n_tasks, channels))

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        """Return the modulated features, (N, channels); ``task`` is the task of each atom, (N,)."""
        return features * (1.0 + self.gain[task]) + self.bias[task]
