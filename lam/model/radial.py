"""Functions of the distance: soft inner limit, smooth outer envelope, Bessel basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def envelope(x: Tensor) -> Tensor:
    """Polynomial that falls from 1 at ``x = 0`` to 0 at ``x = 1`` with three vanishing derivatives there.

    ``(1 - x)^4 (1 + 4x + 10x^2 + 20x^3 + 35x^4) = 1 - 56x^5 + 140x^6 - 120x^7 + 35x^8``: the form of
    Gasteiger et al., arXiv:2003.03123, eq. 8, one order smoother, so that forces have continuous
    curvature. Factorised, because the expanded form loses five digits near x = 1, where most
    neighbours are.

    Args:
        x: distance divided by the cutoff, any shape.
    """
    x = x.clamp(max=1.0)
    rest = 1.0 - x
    rest = rest * rest
    return rest * rest * (1.0 + x * (4.0 + x * (10.0 + x * (20.0 + x * 35.0))))


def soft_inner_limit(distance: Tensor, scale: Tensor, start: float = 0.35, end: float = 0.6) -> Tensor:
    """Map distances so that nothing changes below ``start * scale`` and all is kept above ``end * scale``.

    The network sees the mapped distance. Below the range covered by any data only the screened
    nuclear repulsion acts, so that two atoms repel there whatever the network has learned. The
    transition is a polynomial with two continuous derivatives at both ends.

    Args:
        distance: Angstrom, any shape.
        scale: sum of the covalent radii of the pair, Angstrom, same shape.
        start: fraction of ``scale`` below which the mapped distance is constant.
        end: fraction of ``scale`` above which the mapped distance is the distance.
    """
    width = (end - start) * scale
    t = ((distance - start * scale) / width).clamp(0.0, 1.0)
    # The integral of the quintic smoothstep 6t^5 - 15t^4 + 10t^3; it is 1/2 at t = 1.
    inside = width * (t**4 * (2.5 + t * (t - 3.0)) + 0.5) + start * scale
    return torch.where(distance < end * scale, inside, distance)


class RadialBasis(nn.Module):
    """Bessel functions ``sqrt(2/r_c) sin(n pi r / r_c) / r`` times the envelope (arXiv:2003.03123, eq. 7).

    Args:
        cutoff: Angstrom.
        size: number of functions.
    """

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("frequencies", torch.arange(1, size + 1, dtype=torch.float64).float() * math.pi / cutoff)

    def forward(self, distance: Tensor) -> Tensor:
        """Return the basis functions, shape (E, size), of distances in Angstrom, shape (E,)."""
        # Scaled to order one in the middle of the range instead of to unit norm.
        window = envelope(distance / self.cutoff) * (self.cutoff / 2.0) / distance
        return torch.sin(distance[:, None] * self.frequencies) * window[:, None]
