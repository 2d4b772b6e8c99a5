"""Functions on the sphere: real spherical harmonics (e3nn) and an exact quadrature for their products.

Features are ordered ``l = 0 .. l_max``, each with ``2l + 1`` components in e3nn's order, of natural
parity ``(-1)^l``. They are kept as ``(M, N, C)`` with ``M = (l_max + 1)^2``: one contiguous slab per
component, so that channel mixing is one batched matrix product and quadrature a single one.
"""

from __future__ import annotations

import torch
from e3nn import o3
from scipy.integrate import lebedev_rule
from torch import Tensor


def degree_of_component(l_max: int) -> list[int]:
    """Return the degree l of each of the ``(l_max + 1)^2`` components."""
    return [degree for degree in range(l_max + 1) for _ in range(2 * degree + 1)]


def harmonics(directions: Tensor, l_max: int) -> Tensor:
    """Real spherical harmonics of unit vectors, "component" normalised: ``sum_m Y_lm^2 = 2l + 1``.

    Args:
        directions: unit vectors, shape (E, 3). They are not normalised here.
        l_max: highest degree.

    Returns:
        Shape (E, (l_max + 1)^2).
    """
    return o3.spherical_harmonics(list(range(l_max + 1)), directions, normalize=False, normalization="component")


def quadrature(l_max: int) -> tuple[Tensor, Tensor]:
    """Matrices that take coefficients to values on a Lebedev grid and back.

    The rule integrates polynomials of degree ``3 l_max`` exactly, so the projection of the product of
    two expansions onto degrees up to ``l_max`` is exact: an O(3)-equivariant product of natural parity
    without coupling coefficients (checked in tests/model/test_equivariance.py).

    Returns:
        ``(to_grid, from_grid)``, float64, of shapes (P, M) and (M, P).
    """
    order = 3 * l_max
    order += 1 - order % 2  # Lebedev rules exist for odd orders
    points, weights = lebedev_rule(order)
    directions = torch.from_numpy(points.T.copy())
    to_grid = harmonics(directions, l_max)
    area = torch.from_numpy(weights / weights.sum())
    # Component-normalised harmonics have mean square 1 over the sphere, so the transpose inverts.
    return to_grid, (to_grid * area[:, None]).T.contiguous()


def coupling(to_grid: Tensor, from_grid: Tensor) -> Tensor:
    """Return the coefficients of the product that a quadrature computes: ``p_m = sum_ab G_mab x_a y_b``, (M, M, M).

    They are the same for every grid that is exact, up to rounding: the mean over the sphere of ``Y_m Y_a Y_b``.
    """
    return torch.einsum("mp,pa,pb->mab", from_grid, to_grid, to_grid)
