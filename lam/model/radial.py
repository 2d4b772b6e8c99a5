"""Functions of the distance: soft inner limit, smooth outer envelope, Bessel basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SMALLEST = 1e-4
"""Smallest distance that is told from zero, Angstrom: overlapping atoms give finite numbers."""


def envelope(x: Tensor) -> Tensor:
    """Polynomial that falls from 1 at ``x = 0`` to 0 at ``x = 1`` with three vanishing derivatives there.

    ``(1 - x)^4 sum_{k<8} C(k+3, 3) x^k = 1 - O(x^8)``: the form of Gasteiger et al., arXiv:2003.03123,
    eq. 8, with p = 8 and one order smoother, so that forces have continuous curvature. Factorised,
    because the expanded form loses five digits near x = 1, where most neighbours are.

    Args:
        x: distance divided by the cutoff, any shape.
    """
    x = x.clamp(max=1.0)
    rest = 1.0 - x
    rest = rest * rest
    rest = rest * rest
    total = x.new_full((), 120.0)
    for coefficient in (84.0, 56.0, 35.0, 20.0, 10.0, 4.0, 1.0):
        total = total * x + coefficient
    return rest * total


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


def radial_functions(distance: Tensor, scale: Tensor, cutoff: float) -> Tensor:
    """Bessel functions times the envelope, ``scale_n sin(n pi r / r_c) / r * f(r / r_c)``, n = 1, 2, ...

    Args:
        distance: Angstrom, (E,).
        scale: of each function, (n,).
        cutoff: Angstrom.

    Returns:
        (E, n).
    """
    order = torch.arange(1, len(scale) + 1, dtype=distance.dtype, device=distance.device)
    window = envelope(distance / cutoff) / distance
    return torch.sin((distance * (math.pi / cutoff))[:, None] * order) * scale * window[:, None]


class RadialBasis(nn.Module):
    """Bessel functions ``sin(n pi r / r_c) / r`` (arXiv:2003.03123, eq. 7) times the envelope, normalised.

    Each function is scaled so that its squares add up to one over the neighbours in a uniform medium of the
    mean density. Products of densities then start of order one, whatever the cutoff; unscaled, the fourth
    powers of small numbers would never be learned from.

    Args:
        cutoff: Angstrom.
        size: number of functions.
        mean_neighbors: number of neighbours within the cutoff at the mean density.

    Attributes:
        scale: of each function, (n,).
    """

    def __init__(self, cutoff: float, size: int, mean_neighbors: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        order = torch.arange(1, size + 1, dtype=torch.float64)
        grid = torch.linspace(0.0, 1.0, 2001, dtype=torch.float64)[1:, None]  # in units of the cutoff
        # Neighbours are distributed as 3 x^2 dx; the functions are window * sin(n pi x) / x.
        squares = 3.0 * (envelope(grid) * torch.sin(order * math.pi * grid)) ** 2
        scale = 1.0 / torch.sqrt(mean_neighbors * squares.mean(0))
        # Part of the format of checkpoints; the functions themselves follow from the cutoff.
        self.register_buffer("frequencies", (order * math.pi / cutoff).float())
        self.register_buffer("scale", (scale * cutoff).float())
