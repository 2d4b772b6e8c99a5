"""Many-body products of an atom's own density, and the invariants made of them."""

from __future__ import annotations

import math
from importlib.metadata import version

import torch
from torch import Tensor, nn

from lam.errors import LamError
from lam.model.angular import coupling, degree_of_component, quadrature
from lam.model.constants import Table
from lam.model.kernels import fuses_nodes, node_ops


class ChannelMix(nn.Module):
    """A linear map of channels for each degree l: (M, N, C_in) -> (M, N, C_out), O(3)-equivariant.

    Args:
        degrees: degree of each of the M components.
        n_in: C_in.
        n_out: C_out.
    """

    def __init__(self, degrees: list[int], n_in: int, n_out: int) -> None:
        super().__init__()
        lowest = min(degrees)
        self.register_buffer("component_degree", torch.tensor(degrees) - lowest, persistent=False)
        n_degrees = max(degrees) - lowest + 1
        self.weight = nn.Parameter(torch.randn(n_degrees, n_in, n_out) / math.sqrt(n_in))

    def weights(self) -> Tensor:
        """Return the matrix of every component, (M, C_in, C_out)."""
        return self.weight[self.component_degree]

    def forward(self, features: Tensor) -> Tensor:
        """Return the mixed features, (M, N, C_out)."""
        return torch.bmm(features, self.weights())


class NodeProduct(nn.Module):
    """Bilinear product on the sphere and the invariants up to fourth or fifth body order.

    With the density ``a``, its mix ``b = W_b a``, and the product ``p`` of both on a Lebedev grid
    (exact, see :func:`lam.model.angular.quadrature`), the invariants are, for every degree l and
    channel c, ``a.b``, ``p.b`` and, if asked for, ``p.(W_p p)``: sums over m of products of two, three and four
    densities, besides ``a_00`` itself.

    Args:
        l_max: highest degree.
        channels: C.
        fourth_order: make invariants of four densities.

    Attributes:
        kinds: kinds of invariants besides ``a_00``: 2 or 3.
    """

    def __init__(self, l_max: int, channels: int, *, fourth_order: bool = True) -> None:
        super().__init__()
        degrees = degree_of_component(l_max)
        self.channels = channels
        self.kinds = 3 if fourth_order else 2
        self.n_invariants = (self.kinds * (l_max + 1) + 1) * channels
        self.partner = ChannelMix(degrees, channels, channels)
        self.product_partner = ChannelMix(degrees, channels, channels) if fourth_order else None
        # Saved with the model, and compared at loading with those of the installed libraries.
        self.l_max = l_max
        self.to_grid, self.from_grid = (Table(matrix) for matrix in quadrature(l_max))
        degree = torch.tensor(degrees)
        contract = torch.zeros(l_max + 1, len(degrees), dtype=torch.float64)
        contract[degree, torch.arange(len(degrees))] = (2.0 * degree + 1.0).double().rsqrt()
        self.contract = Table(contract)
        self.register_load_state_dict_post_hook(_check_tables)

    def forward(self, density: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product, (M, N, C), and the invariants, (N, n_invariants), of a density (M, N, C)."""
        partner = self.partner(density)
        if fuses_nodes(density):
            product = node_ops.couple(density, partner)
            return product, node_ops.invariants(density, partner, product, self._second(product))
        on_grid = self._matrix(self.to_grid, density) * self._matrix(self.to_grid, partner)
        product = self._matrix(self.from_grid, on_grid)
        factors = [density * partner, product * partner]
        if self.product_partner is not None:
            factors.append(product * self.product_partner(product))
        pairs = torch.cat([self._matrix(self.contract, factor) for factor in factors])
        invariants = torch.cat([density[:1], pairs])  # (rows, N, C)
        return product, invariants.transpose(0, 1).reshape(density.shape[1], self.n_invariants)

    def _second(self, product: Tensor) -> Tensor:
        """Return the product's own partner, (M, N, C), or (0, N, C) without invariants of four densities."""
        return product[:0] if self.product_partner is None else self.product_partner(product)

    def _matrix(self, table: Table, features: Tensor) -> Tensor:
        """Apply a constant matrix to the leading axis as a single matrix product."""
        matrix = table(features.dtype)
        return (matrix @ features.reshape(features.shape[0], -1)).view(matrix.shape[0], *features.shape[1:])


def _check_tables(product: NodeProduct, _: object) -> None:
    """Refuse loaded tables of another product than the installed one.

    The harmonics of the messages, and the coefficients of the fused kernels, are those of the installed libraries and
    of this code. Another rule with the same product does no harm; another order or sign of the harmonics would.

    Raises:
        LamError: if the coefficients of the product differ.
    """
    loaded = coupling(product.to_grid(), product.from_grid()).cpu()
    difference = float((loaded - coupling(*quadrature(product.l_max))).abs().max())
    if not difference < 1e-10:
        raise LamError(
            f"These weights were made with other spherical harmonics than those of the installed e3nn "
            f"{version('e3nn')}: coefficients of their product differ by {difference:.2g}. Install the version of e3nn "
            "that the model's model.json names."
        )
