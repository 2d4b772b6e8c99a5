"""Variants of the ablations that need other code than lam's: patches, so that lam itself stays clean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn

from lam import keys
from lam.model import backbone, fused, layer, product
from lam.model.angular import degree_of_component
from lam.model.constants import Table
from lam.model.kernels import fuses_nodes, messages, node_ops
from lam.model.layer import Layer, Message
from lam.model.product import ChannelMix, NodeProduct
from lam.model.radial import envelope

VARIANTS: dict[str, Callable[[], None]] = {}
"""Name of a variant -> what makes it, in this process."""


def apply(name: str | None) -> None:
    """Change lam in this process to a variant; None leaves it as it is."""
    if name is not None:
        fused.ENABLED = False  # it would compute what was there before
        VARIANTS[name]()


def variant(function: Callable[[], None]) -> Callable[[], None]:
    """Register a variant under its name."""
    VARIANTS[function.__name__.replace("_", "-")] = function
    return function


# -- messages ----------------------------------------------------------------------------------


def _without(*, seen: bool, passed: bool) -> None:
    """Let later layers not see the neighbours' tensors along the bond, or not pass them through, or neither."""
    made = Message.__init__

    def init(self: Message, config: Any, *, first: bool) -> None:
        made(self, config, first=first)
        if first:
            return
        if not seen:
            del self.along_bond
        if not passed:
            n_pairs = config.radial_functions * config.sender_channels
            self.mix = ChannelMix(degree_of_component(config.l_max), n_pairs, config.channels)

    def senders(self: Message, scalars: Tensor, tensors: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q = self.sender(scalars)
        none = q.new_zeros(len(q), 0)
        if tensors is None or not (seen or passed):
            return q, none, none
        # The kernels take both kinds of tensors or none: what is left out is zero.
        along = q.new_zeros(len(q), 8 * q.shape[1])
        if seen:
            maps = self.along_bond.weight.split(tensors.shape[2], dim=1)
            parts = [tensors[:, s] @ w.T for s, w in zip((slice(0, 3), slice(3, 8)), maps, strict=True)]
            along = torch.cat(parts, dim=1).flatten(1)
        return q, along, tensors.flatten(1) if passed else q.new_zeros(len(q), 8)

    def density(self: Message, summed: Tensor, through: Tensor, numbers: Tensor) -> Tensor:
        summed = summed * (1.0 + self.gate(numbers))
        n_pairs = summed.shape[2]
        weight = self.mix.weights() * self.scale
        mixed = torch.bmm(summed, weight[:, :n_pairs])
        if self.first or not passed:
            return mixed
        part = torch.baddbmm(mixed[1:9], through, weight[1:9, n_pairs:])
        return torch.cat([mixed[:1], part, mixed[9:]])

    Message.__init__, Message.senders, Message.density = init, senders, density


@variant
def scalar_senders() -> None:
    """Senders are scalars only; tensors are passed through."""
    _without(seen=False, passed=True)


@variant
def no_pass_through() -> None:
    """Tensors are seen along the bond, not passed through."""
    _without(seen=True, passed=False)


@variant
def scalars_only() -> None:
    """Messages of scalars only."""
    _without(seen=False, passed=False)


def _late_radial(count: int, senders: int | None = None) -> None:
    """Use only the first ``count`` radial functions, and as many sender channels, after the first layer."""
    made = Message.__init__

    def init(self: Message, config: Any, *, first: bool) -> None:
        width = senders or config.sender_channels
        late = config.model_copy(update={"radial_functions": count, "sender_channels": width})
        made(self, config if first else late, first=first)

    def forward(self: backbone.Backbone, graph: dict[str, Tensor], edges: Any) -> Tensor:
        numbers, context = graph[keys.ATOMIC_NUMBERS], self.context(graph)
        sums = [
            messages(
                edges.vectors, edges.starts, edges.neighbors, self.radii[numbers], scale, self.config.cutoff,
                self.config.l_max,
            )
            for scale in (self.radial.scale, self.radial.scale[:count].contiguous())
        ]  # fmt: skip
        scalars, tensors = self.element(numbers), None
        for place, each in enumerate(self.layers):
            found = sums[min(place, 1)](*each.senders(scalars, tensors))
            scalars, tensors = each.receive(found, scalars, numbers, context)
        return scalars

    Message.__init__, backbone.Backbone.forward = init, forward


def _own_tensors() -> None:
    """Add an atom's own tensors to the density of later layers."""
    made, sent, got = Layer.__init__, Layer.senders, Message.density

    def init(self: Layer, config: Any, *, first: bool, last: bool) -> None:
        made(self, config, first=first, last=last)
        if not first:
            self.message.own_tensors = ChannelMix([1, 1, 1, 2, 2, 2, 2, 2], config.tensor_channels, config.channels)

    def senders(self: Layer, scalars: Tensor, tensors: Tensor | None) -> Any:
        self.message.kept = tensors
        return sent(self, scalars, tensors)

    def density(self: Message, summed: Tensor, through: Tensor, numbers: Tensor) -> Tensor:
        mixed = got(self, summed, through, numbers)
        if self.first:
            return mixed
        part = mixed[1:9] + self.own_tensors(self.kept.transpose(0, 1))
        return torch.cat([mixed[:1], part, mixed[9:]])

    Layer.__init__, Layer.senders, Message.density = init, senders, density


@variant
def own_tensors() -> None:
    """Add an atom's own tensors to the density of later layers."""
    _own_tensors()


@variant
def late_4_32() -> None:
    """Use four radial functions and 32 sender channels after the first layer."""
    _late_radial(4, 32)


@variant
def late_radial_6() -> None:
    """Use six radial functions after the first layer."""
    _late_radial(6)


@variant
def late_radial_4() -> None:
    """Use four radial functions after the first layer."""
    _late_radial(4)


# -- product -----------------------------------------------------------------------------------


def _invariants(*, third: bool, fourth: bool) -> None:
    """Leave out invariants of three or of four densities."""
    made = NodeProduct.__init__

    def init(self: NodeProduct, l_max: int, channels: int, **_: bool) -> None:
        made(self, l_max, channels, fourth_order=True)
        self.n_invariants = ((1 + third + fourth) * (l_max + 1) + 1) * channels
        if not fourth:
            del self.product_partner

    def forward(self: NodeProduct, density: Tensor) -> tuple[Tensor, Tensor]:
        partner = self.partner(density)
        if fuses_nodes(density):
            found = node_ops.couple(density, partner)
            other = self.product_partner(found) if fourth else found
            pairs = node_ops.pair(density, partner, found, other)
        else:
            on_grid = self._matrix(self.to_grid, density) * self._matrix(self.to_grid, partner)
            found = self._matrix(self.from_grid, on_grid)
            other = self.product_partner(found) if fourth else found
            factors = (density * partner, found * partner, found * other)
            pairs = torch.stack([self._matrix(self.contract, factor) for factor in factors])
        kept = [pairs[0], *([pairs[1]] if third else []), *([pairs[2]] if fourth else [])]
        invariants = torch.cat([density[:1], *kept])
        return found, invariants.transpose(0, 1).reshape(density.shape[1], self.n_invariants)

    NodeProduct.__init__, NodeProduct.forward = init, forward


@variant
def no_third() -> None:
    """Invariants of two and of four densities."""
    _invariants(third=False, fourth=True)


@variant
def no_product() -> None:
    """Invariants of two densities only; tensors still come of the product."""
    _invariants(third=False, fourth=False)


@variant
def clebsch_gordan() -> None:
    """Couple by e3nn's coefficients, every path (l1, l2 -> l3) of natural parity with a weight for each channel."""
    made = NodeProduct.__init__

    def init(self: NodeProduct, l_max: int, channels: int, **_: bool) -> None:
        made(self, l_max, channels, fourth_order=True)
        del self.to_grid, self.from_grid
        left, right, out, values = [], [], [], []
        n_paths = 0
        for l3 in range(l_max + 1):
            for l1 in range(l_max + 1):
                for l2 in range(abs(l1 - l3), min(l_max, l1 + l3) + 1):
                    if (l1 + l2 + l3) % 2:
                        continue
                    table = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
                    for m1, m2, m3 in table.abs().gt(1e-9).nonzero().tolist():
                        left.append(l1 * l1 + m1)
                        right.append(l2 * l2 + m2)
                        out.append((n_paths, l3 * l3 + m3))
                        values.append(float(table[m1, m2, m3]))
                    n_paths += 1
        places = sorted(set(out))
        matrix = torch.zeros(len(places), len(values), dtype=torch.float64)
        for column, (place, value) in enumerate(zip(out, values, strict=True)):
            matrix[places.index(place), column] = value
        self.couple = Table(matrix)
        self.register_buffer("left", torch.tensor(left), persistent=False)
        self.register_buffer("right", torch.tensor(right), persistent=False)
        self.register_buffer("path_of_row", torch.tensor([p for p, _ in places]), persistent=False)
        self.register_buffer("out_of_row", torch.tensor([m for _, m in places]), persistent=False)
        self.path_gain = nn.Parameter(torch.randn(n_paths, channels))

    def forward(self: NodeProduct, density: Tensor) -> tuple[Tensor, Tensor]:
        partner = self.partner(density)
        rows = self._matrix(self.couple, density[self.left] * partner[self.right])
        rows = rows * self.path_gain[self.path_of_row][:, None]
        found = torch.zeros_like(density).index_add(0, self.out_of_row, rows)
        if fuses_nodes(density):
            pairs = node_ops.pair(density, partner, found, self.product_partner(found)).flatten(0, 1)
        else:
            factors = (density * partner, found * partner, found * self.product_partner(found))
            pairs = torch.cat([self._matrix(self.contract, factor) for factor in factors])
        invariants = torch.cat([density[:1], pairs])
        return found, invariants.transpose(0, 1).reshape(density.shape[1], self.n_invariants)

    NodeProduct.__init__, NodeProduct.forward = init, forward


@variant
def lebedev() -> None:
    """Multiply on the grid also where the fused operators would couple by the non-zero coefficients."""
    product.fuses_nodes = lambda features: False


# -- normalisation -----------------------------------------------------------------------------


@variant
def no_norm() -> None:
    """Do not normalise densities and tensors."""
    layer.soft_normalize = lambda features: features


@variant
def rms_norm() -> None:
    """Divide by the root mean square of an atom's features."""

    def normalize(features: Tensor) -> Tensor:
        return features * torch.rsqrt(1e-2 + features.square().mean(dim=(0, 2)))[None, :, None]

    layer.soft_normalize = normalize


@variant
def rms_norm_per_l() -> None:
    """Divide the features of each degree by their root mean square."""

    def normalize(features: Tensor) -> Tensor:
        parts, start, width = [], 0, 1 if features.shape[0] != 8 else 3
        while start < features.shape[0]:
            part = features[start : start + width]
            parts.append(part * torch.rsqrt(1e-2 + part.square().mean(dim=(0, 2)))[None, :, None])
            start, width = start + width, width + 2
        return torch.cat(parts)

    layer.soft_normalize = normalize


@variant
def degree_norm() -> None:
    """Divide the density by the root of the atom's own number of neighbours (counted smoothly) over the mean one."""
    forward, receive = backbone.Backbone.forward, Layer.receive
    current: list[Tensor] = []

    def with_degrees(self: backbone.Backbone, graph: dict[str, Tensor], edges: Any) -> Tensor:
        distances = torch.sqrt(edges.vectors.square().sum(-1) + 1e-8)
        window = envelope(distances / self.config.cutoff)
        degrees = window.new_zeros(edges.n_atoms).index_add(0, edges.centers, window)
        # A third: the mean of the window over a ball, about.
        current[:] = [torch.rsqrt(0.1 + degrees / (self.config.mean_neighbors / 3.0))]
        return forward(self, graph, edges)

    def scaled(self: Layer, sums: tuple[Tensor, Tensor], *rest: Tensor) -> tuple[Tensor, Tensor | None]:
        factor = current[0][None, :, None]
        return receive(self, (sums[0] * factor, sums[1] * factor), *rest)

    backbone.Backbone.forward, Layer.receive = with_degrees, scaled
