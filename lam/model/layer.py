"""One layer: messages from the neighbours, products at the atom, update of its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lam.model.angular import degree_of_component
from lam.model.config import ModelConfig
from lam.model.edges import EdgeBlocks
from lam.model.product import ChannelMix, NodeProduct

TENSOR_DEGREES = (1, 2)
"""Degrees of the tensors that atoms send to their neighbours."""


@dataclass(frozen=True)
class EdgeGeometry:
    """What the layers know of the edges' geometry.

    Attributes:
        radial: radial functions, (S, n).
        angular: spherical harmonics, (S, M).
        radial_angular: their outer product, (S, M * n).
    """

    radial: Tensor
    angular: Tensor
    radial_angular: Tensor


class Message(nn.Module):
    """Atomic density: the neighbours' sender channels times radial functions times harmonics, summed.

    The sum keeps radial function and sender channel apart; a centre-dependent gate and one linear map
    per degree then mix all their pairs. So the radial function of a channel depends on the elements of
    both ends, yet nothing but the senders and the fixed geometry exists for every edge.

    Args:
        config: architecture.
        first: in the first layer a sender is its element alone.
    """

    def __init__(self, config: ModelConfig, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.n_components = (config.l_max + 1) ** 2
        n_pairs = config.radial_functions * config.sender_channels
        n_in = n_pairs
        self.sender = nn.Linear(config.scalar_channels, config.sender_channels, bias=False)
        if not first:
            # The neighbour's tensors seen along the bond (architecture.md): <t_j^l, Y_l(u_ij)>.
            n_sent = len(TENSOR_DEGREES) * config.tensor_channels
            self.along_bond = nn.Linear(n_sent, config.sender_channels, bias=False)
            n_in += config.radial_functions * config.tensor_channels
        self.gate = nn.Embedding(config.max_atomic_number + 1, n_pairs)
        nn.init.normal_(self.gate.weight, std=0.3)
        self.mix = ChannelMix(degree_of_component(config.l_max), n_in, config.channels)
        # Senders start somewhat below one in the first layer, and at about one in the others.
        scale = torch.full((self.n_components,), 2.0 if first else 1.0)
        scale[0] = 0.5  # l = 0 adds up coherently
        self.register_buffer("scale", scale[:, None, None], persistent=False)

    def forward(
        self, scalars: Tensor, tensors: Tensor | None, numbers: Tensor, edges: EdgeBlocks, geometry: EdgeGeometry
    ) -> Tensor:
        """Return the density, (M, N, C)."""
        senders = self.sender(scalars)[edges.neighbors]
        if tensors is not None:
            sent = tensors[edges.neighbors]  # (S, 8, C_t)
            projected = [
                (sent[:, part] * geometry.angular[:, degree**2 : (degree + 1) ** 2, None]).sum(1)
                for degree, part in _tensor_slices()
            ]
            senders = senders + self.along_bond(torch.cat(projected, dim=-1))
        density = edges.sum_over_neighbors(geometry.radial_angular, senders)
        n_atoms = density.shape[0]
        density = density.view(n_atoms, self.n_components, -1) * (1.0 + self.gate(numbers)[:, None, :])
        density = density.transpose(0, 1) * self.scale
        if tensors is not None:
            passed = edges.sum_over_neighbors(geometry.radial, sent.flatten(1))
            passed = passed.view(n_atoms, geometry.radial.shape[1], sent.shape[1], -1).permute(2, 0, 1, 3).flatten(2)
            # Only l = 1, 2 are passed through; the other degrees get zeros in these channels.
            passed = functional.pad(passed * self.scale[-1], (0, 0, 0, 0, 1, self.n_components - 1 - sent.shape[1]))
            density = torch.cat([density, passed], dim=-1)
        return self.mix(density)


class Layer(nn.Module):
    """Message, product, and update of an atom's scalars and (except in the last layer) tensors."""

    def __init__(self, config: ModelConfig, *, first: bool, last: bool) -> None:
        super().__init__()
        self.message = Message(config, first=first)
        self.product = NodeProduct(config.l_max, config.channels)
        width = config.scalar_channels
        self.invariant = nn.Linear(self.product.n_invariants, width)
        self.element_gain = nn.Embedding(config.max_atomic_number + 1, width)
        self.from_scalars = nn.Linear(width, width, bias=False)
        self.update = nn.Linear(width, width)
        nn.init.normal_(self.element_gain.weight, std=0.3)
        self.to_tensors = None
        if not last:
            degrees = [degree for degree in TENSOR_DEGREES for _ in range(2 * degree + 1)]
            self.to_tensors = ChannelMix(degrees, 2 * config.channels, config.tensor_channels)
            self.tensor_gate = nn.Linear(width, config.tensor_channels)

    def forward(
        self,
        scalars: Tensor,
        tensors: Tensor | None,
        numbers: Tensor,
        context: Tensor,
        edges: EdgeBlocks,
        geometry: EdgeGeometry,
    ) -> tuple[Tensor, Tensor | None]:
        """Update the features.

        Args:
            scalars: (N, S).
            tensors: l = 1, 2 features (N, 8, C_t), or None in the first layer.
            numbers: atomic numbers, (N,).
            context: charge and spin bias, (N, S).
            edges: the edges.
            geometry: radial and angular functions of the edges.
        """
        density = soft_normalize(self.message(scalars, tensors, numbers, edges, geometry))
        product, invariants = self.product(density)
        hidden = self.invariant(invariants) * (1.0 + self.element_gain(numbers)) + self.from_scalars(scalars) + context
        hidden = functional.silu(hidden)
        scalars = scalars + self.update(hidden)
        if self.to_tensors is None:
            return scalars, None
        last = max(TENSOR_DEGREES)
        both = torch.cat([density, product], dim=-1)[1 : (last + 1) ** 2]
        tensors = self.to_tensors(both) * torch.sigmoid(self.tensor_gate(hidden))
        return scalars, soft_normalize(tensors).transpose(0, 1).contiguous()


def soft_normalize(features: Tensor) -> Tensor:
    """Divide (M, N, C) features by ``sqrt(1 + mean square)`` of each atom: bounded, smooth, equivariant.

    Unlike an RMS norm it keeps small features small, so an atom that leaves the cutoff leaves smoothly
    and an isolated atom has none; and products of dense environments cannot explode.
    """
    mean_square = features.square().mean(dim=(0, 2))
    return features * torch.rsqrt(1.0 + mean_square)[None, :, None]


def _tensor_slices() -> list[tuple[int, slice]]:
    """Return the degrees that are sent and where their components lie."""
    slices, start = [], 0
    for degree in TENSOR_DEGREES:
        slices.append((degree, slice(start, start + 2 * degree + 1)))
        start += 2 * degree + 1
    return slices
