"""One layer: messages from the neighbours, products at the atom, update of its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lam.model.angular import degree_of_component
from lam.model.config import ModelConfig
from lam.model.kernels import fuses_nodes, node_ops
from lam.model.product import ChannelMix, NodeProduct

TENSOR_DEGREES = (1, 2)
"""Degrees of the tensors that atoms send to their neighbours."""
_TENSOR_SLICES = (slice(0, 3), slice(3, 8))


Senders = tuple[Tensor, Tensor, Tensor]
"""What atoms send: q (N, S), its l = 1, 2 tensors (N, 8 S), passed tensors (N, 8 C_t); widths 0 for none."""


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
        n_components = (config.l_max + 1) ** 2
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
        scale = torch.full((n_components,), 2.0 if first else 1.0)
        scale[0] = 0.5  # l = 0 adds up coherently
        self.register_buffer("scale", scale[:, None, None], persistent=False)

    def senders(self, scalars: Tensor, tensors: Tensor | None) -> Senders:
        """Return what atoms send, from their scalars (N, S) and tensors (N, 8, C_t), ``None`` for none."""
        q = self.sender(scalars)
        if tensors is None:
            return q, q.new_zeros(len(q), 0), q.new_zeros(len(q), 0)
        # Mixed at the atom: <t^l, Y_l> W = <t^l W, Y_l>, and there are fewer atoms than edges.
        maps = self.along_bond.weight.split(tensors.shape[2], dim=1)
        seen = [tensors[:, part] @ weight.T for part, weight in zip(_TENSOR_SLICES, maps, strict=True)]
        return q, torch.cat(seen, dim=1).flatten(1), tensors.flatten(1)

    def density(self, density: Tensor, passed: Tensor, numbers: Tensor) -> Tensor:
        """Return the mixed density, (M, N, C), from the sums over neighbours, (M, N, n S) and (8, N, n C_t)."""
        gate = self.gate(numbers)
        density = node_ops.gate(density, gate) if fuses_nodes(density) else density * (1.0 + gate)
        n_pairs = density.shape[2]
        weight = self.mix.weights() * self.scale
        mixed = torch.bmm(density, weight[:, :n_pairs])
        if self.first:
            return mixed
        # Only l = 1, 2 are passed through. Split rather than sliced: gradients are then put together, not added up.
        last = 1 + len(passed)
        scalar, middle, rest = mixed.split([1, len(passed), len(mixed) - last])
        return torch.cat([scalar, torch.baddbmm(middle, passed, weight[1:last, n_pairs:]), rest])


class Layer(nn.Module):
    """Message, product, and update of an atom's scalars and (except in the last layer) tensors.

    In three steps, so that whoever distributes atoms over processes can exchange between them:
    ``senders`` (atoms), the sum over neighbours (:mod:`lam.model.kernels`), ``receive`` (atoms).
    """

    def __init__(self, config: ModelConfig, *, first: bool, last: bool) -> None:
        super().__init__()
        self.message = Message(config, first=first)
        self.product = NodeProduct(config.l_max, config.channels, fourth_order=config.fourth_order)
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

    def senders(self, scalars: Tensor, tensors: Tensor | None) -> Senders:
        """Return what atoms send to their neighbours; see :data:`Senders`."""
        return self.message.senders(scalars, tensors)

    def receive(
        self, sums: tuple[Tensor, Tensor], scalars: Tensor, numbers: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new scalars (N, S) and tensors (N, 8, C_t), ``None`` after the last layer.

        Args:
            sums: density (M, N, n S) and passed tensors (8, N, n C_t), summed over neighbours.
            scalars: (N, S).
            numbers: atomic numbers, (N,).
            context: charge and spin bias, (N, S).
        """
        density = soft_normalize(self.message.density(*sums, numbers))
        product, invariants = self.product(density)
        hidden = self.invariant(invariants) * (1.0 + self.element_gain(numbers)) + self.from_scalars(scalars) + context
        hidden = functional.silu(hidden)
        scalars = scalars + self.update(hidden)
        if self.to_tensors is None:
            return scalars, None
        last = (max(TENSOR_DEGREES) + 1) ** 2
        of_density, of_product = self.to_tensors.weights().split(density.shape[2], dim=1)
        tensors = torch.baddbmm(torch.bmm(density[1:last], of_density), product[1:last], of_product)
        tensors = tensors * torch.sigmoid(self.tensor_gate(hidden))
        return scalars, soft_normalize(tensors).transpose(0, 1).contiguous()


def soft_normalize(features: Tensor) -> Tensor:
    """Divide (M, N, C) features by ``sqrt(1 + mean square)`` of each atom: bounded, smooth, equivariant.

    Unlike an RMS norm it keeps small features small, so an atom that leaves the cutoff leaves smoothly
    and an isolated atom has none; and products of dense environments cannot explode.
    """
    if fuses_nodes(features):
        return node_ops.norm(features)
    mean_square = features.square().mean(dim=(0, 2))
    return features * torch.rsqrt(1.0 + mean_square)[None, :, None]
