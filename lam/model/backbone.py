"""The backbone: element embedding, geometry of the edges, layers of messages and products."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lam import keys
from lam.model.angular import harmonics
from lam.model.config import ModelConfig
from lam.model.edges import EdgeBlocks
from lam.model.embedding import ChargeSpinEmbedding
from lam.model.layer import EdgeGeometry, Layer
from lam.model.radial import RadialBasis, soft_inner_limit
from lam.model.repulsion import pair_radii

# Smallest distance that is told from zero, Angstrom: overlapping atoms give finite numbers.
_SMALLEST = 1e-4


class Lengths(NamedTuple):
    """Distances of the edges and the sums of the covalent radii of their ends, Angstrom, both (S,)."""

    distances: Tensor
    reach: Tensor


class Backbone(nn.Module):
    """E(3)-equivariant message passing with products on the nodes (the density trick).

    Reference for the form: the recommendation in the project's architecture notes; density trick as in
    ACE (Drautz 2019, 10.1103/PhysRevB.99.014104) and MACE (arXiv:2206.07697).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.element = nn.Embedding(config.max_atomic_number + 1, config.scalar_channels)
        self.charge_spin = ChargeSpinEmbedding(config.scalar_channels, config.max_atomic_number)
        self.radial = RadialBasis(config.cutoff, config.radial_functions, config.mean_neighbors)
        last = config.n_layers - 1
        self.layers = nn.ModuleList(Layer(config, first=i == 0, last=i == last) for i in range(config.n_layers))
        self.register_buffer("radii", pair_radii(config.max_atomic_number))

    def lengths(self, numbers: Tensor, edges: EdgeBlocks) -> Lengths:
        """Measure the edges."""
        distances = torch.sqrt(edges.vectors.square().sum(-1) + _SMALLEST**2)
        radii = self.radii[numbers]
        return Lengths(distances, radii[edges.centers] + radii[edges.neighbors])

    def forward(self, graph: dict[str, Tensor], edges: EdgeBlocks, lengths: Lengths) -> Tensor:
        """Return the scalars of every atom, (N, S)."""
        numbers, batch = graph[keys.ATOMIC_NUMBERS], graph[keys.BATCH]
        context = self.charge_spin(
            graph[keys.TOTAL_CHARGE], graph[keys.SPIN_MULTIPLICITY], graph[keys.N_ATOMS], batch, numbers
        )
        geometry = self._geometry(edges, lengths)
        scalars, tensors = self.element(numbers), None
        for layer in self.layers:
            scalars, tensors = layer(scalars, tensors, numbers, context, edges, geometry)
        return scalars

    def _geometry(self, edges: EdgeBlocks, lengths: Lengths) -> EdgeGeometry:
        radial = self.radial(soft_inner_limit(*lengths))
        angular = harmonics(edges.vectors / lengths.distances[:, None], self.config.l_max)
        both = (angular[:, :, None] * radial[:, None, :]).flatten(1)
        return EdgeGeometry(radial, angular, both)
