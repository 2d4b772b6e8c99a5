"""Heads: from an atom's scalars to its energy, for every task in one stacked tensor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lam.model.embedding import FiLM


class Readout(nn.Module):
    """Per-task readout ``w_t . [SiLU(W FiLM_t(h)), h]``, in units of the task's energy scale.

    All that belongs to a task is one row of a stacked tensor, so adding a task adds rows, training one
    task alone leaves the others bitwise as they are, and DDP has no unused parameter.

    Args:
        n_tasks: number of heads.
        scalar_channels: width of the scalars.
        readout_channels: width of the hidden layer.
    """

    def __init__(self, n_tasks: int, scalar_channels: int, readout_channels: int) -> None:
        super().__init__()
        self.film = FiLM(n_tasks, scalar_channels)
        self.hidden = nn.Linear(scalar_channels, readout_channels)
        self.hidden_film = FiLM(n_tasks, readout_channels)
        # The same start for every task: they differ by what they learn, not by chance. Small, because
        # the reference energies are fitted already and random offsets per element would have to be unlearned.
        hidden = 0.3 * torch.randn(readout_channels) / math.sqrt(readout_channels)
        start = torch.cat([hidden, torch.zeros(scalar_channels)])
        self.weight = nn.Parameter(start.repeat(n_tasks, 1))
        self.bias = nn.Parameter(torch.zeros(n_tasks))

    def forward(self, scalars: Tensor, task: Tensor) -> Tensor:
        """Return the scaled energy of each atom, (N,), from scalars (N, S) and tasks (N,)."""
        scalars = self.film(scalars, task)
        hidden = functional.silu(self.hidden_film(self.hidden(scalars), task))
        return (torch.cat([hidden, scalars], dim=-1) * self.weight[task]).sum(-1) + self.bias[task]

    def task_parameters(self) -> list[nn.Parameter]:
        """Return the parameters whose first axis is the task."""
        return [self.film.gain, self.film.bias, self.hidden_film.gain, self.hidden_film.bias, self.weight, self.bias]
