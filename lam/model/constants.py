"""Tables that keep double precision whatever precision the model runs in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """A constant tensor, stored in float64 and saved with the model.

    ``model.float()`` would round an ordinary buffer for good; total energies of thousands of eV and
    quadrature rules that must be exact to 1e-15 cannot afford that.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value.to(torch.float64))

    def forward(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the table in ``dtype``."""
        return self.value.to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Follow the module to another device, but never to another precision.
        exact = self.value
        super()._apply(fn, recurse)
        self.value = exact.to(self.value.device)
        return self
