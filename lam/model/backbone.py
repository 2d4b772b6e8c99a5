"""The backbone: element embedding, layers of messages and products."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lam import keys
from lam.model.config import ModelConfig
from lam.model.edges import Edges
from lam.model.embedding import ChargeSpinEmbedding
from lam.model.kernels import messages
from lam.model.layer import Layer
from lam.model.radial import RadialBasis
from lam.model.repulsion import pair_radii


class Backbone(nn.Module):
    """E(3)-equivariant message passing with products on the nodes (the density trick).

    Reference for the form: the recommendation in the project's architecture notes; density trick as in
    ACE (Drautz 2019, 10.1103/PhysRevB.99.014104) and MACE (arXiv:2206.07697).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        """Keep only what goes from layer to layer while training, and calculate the rest again on the way back."""
        self.element = nn.Embedding(config.max_atomic_number + 1, config.scalar_channels)
        self.charge_spin = ChargeSpinEmbedding(config.scalar_channels, config.max_atomic_number)
        self.radial = RadialBasis(config.cutoff, config.radial_functions, config.mean_neighbors)
        last = config.n_layers - 1
        self.layers = nn.ModuleList(Layer(config, first=i == 0, last=i == last) for i in range(config.n_layers))
        self.register_buffer("radii", pair_radii(config.max_atomic_number))

    def context(self, graph: dict[str, Tensor]) -> Tensor:
        """Return the bias of charge and spin on every atom, (N, S)."""
        return self.charge_spin(
            graph[keys.TOTAL_CHARGE],
            graph[keys.SPIN_MULTIPLICITY],
            graph[keys.N_ATOMS],
            graph[keys.BATCH],
            graph[keys.ATOMIC_NUMBERS],
        )

    def forward(self, graph: dict[str, Tensor], edges: Edges) -> Tensor:
        """Return the scalars of every atom, (N, S)."""
        numbers, context = graph[keys.ATOMIC_NUMBERS], self.context(graph)
        sum_messages = messages(
            edges.vectors,
            edges.starts,
            edges.neighbors,
            self.radii[numbers],
            self.radial.scale,
            self.config.cutoff,
            self.config.l_max,
        )
        scalars, tensors = self.element(numbers), None

        def through(layer: Layer, scalars: Tensor, tensors: Tensor | None) -> tuple[Tensor, Tensor | None]:
            sums = sum_messages(*layer.senders(scalars, tensors))
            return layer.receive(sums, scalars, numbers, context)

        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                scalars, tensors = checkpoint(
                    through, layer, scalars, tensors, use_reentrant=False, preserve_rng_state=False
                )
            else:
                scalars, tensors = through(layer, scalars, tensors)
        return scalars
