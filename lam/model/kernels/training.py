"""The passes of a training step over blocks of atoms: values, forces, tangents, and gradients of weights.

Nothing here knows of PyTorch's autograd; :mod:`lam.model.fused` makes one operation of it. A block of atoms goes
through a layer within the cache, and what it keeps is written once and read once by each later pass.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from lam.model.kernels import numba_block as first_order
from lam.model.kernels import numba_block_second as second_order
from lam.model.kernels import numba_product
from lam.model.kernels.numba_block import (
    Mixing,
    MixingGradients,
    Sending,
    SendingGradients,
    States,
    Sums,
    Updating,
    UpdatingGradients,
)
from lam.model.kernels.numba_message import Kernels, kernels
from lam.model.kernels.shares import shares
from lam.model.kernels.threads import run

BLOCK = 48
"""Atoms that are worked on together."""
_LINE = 16
"""Numbers that arrays of a block begin at multiples of: whole lines of the cache."""

Sent = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What atoms send: q (N, Q), T (N, 8 Q), t (N, 8 C_t); widths 0 for none."""


class Weights(NamedTuple):
    """The weights of a layer."""

    mixing: Mixing
    updating: Updating
    sending: Sending


class WeightGradients(NamedTuple):
    """Their gradients."""

    mixing: MixingGradients
    updating: UpdatingGradients
    sending: SendingGradients


class Values(NamedTuple):
    """What a block has in a layer: values, or their cotangents, or their tangents."""

    sums: Sums
    states: States


class Sizes(NamedTuple):
    """The sizes that kernels are made for."""

    l_max: int
    n_radial: int
    channels: int
    width: int
    """Of the scalars, S."""
    tensors: int
    """Channels of the tensors, C_t."""
    kinds: int
    """Kinds of invariants besides ``a_00``."""
    cutoff: float


@dataclass
class Graph:
    """The atoms and edges of a batch.

    Attributes:
        starts, neighbors, vectors, radii, scale: as in :mod:`lam.model.kernels.ops`.
        elements: which of the batch's elements each atom is, (N,).
        kinds: kind of each atom in the first layer, for the maps ``combined``, (N,).
        context: bias of charge and spin, (N, S).
    """

    starts: np.ndarray
    neighbors: np.ndarray
    vectors: np.ndarray
    radii: np.ndarray
    scale: np.ndarray
    elements: np.ndarray
    kinds: np.ndarray
    context: np.ndarray


@dataclass
class _Block:
    """Atoms ``first`` to ``last - 1`` in one layer, and what they keep."""

    first: int
    last: int
    x: Values
    g: Values | None = None
    d: Values | None = None


@dataclass
class Gradients:
    """What the last pass gives."""

    scalars: np.ndarray
    """Of the scalars before the first layer, (N, S)."""
    context: np.ndarray
    senders: np.ndarray | None
    """Of the first layer's senders, (N, Q); None where these are fixed."""
    weights: list[WeightGradients]


@dataclass
class Passes:
    """One batch through all layers: :meth:`forward`, :meth:`pull`, :meth:`tangent`, :meth:`second`, in this order.

    Args:
        sizes: sizes of the model.
        weights: of each layer.
        graph: the batch.
        fixed_senders: are the first layer's senders fixed (elements), so that nothing wants their gradient?
    """

    sizes: Sizes
    weights: list[Weights]
    graph: Graph
    fixed_senders: bool
    blocks: list[list[list[_Block]]] = field(default_factory=list)
    """Of each layer and thread."""

    def __post_init__(self) -> None:
        graph, sizes = self.graph, self.sizes
        self.number = graph.vectors.dtype.type
        self.ranges = shares(graph.starts)
        self.count, self.layers = len(graph.starts) - 1, len(self.weights)
        double = self.number is np.float64
        self.couple = numba_product.couple(sizes.l_max, double)
        self.couple_two = numba_product.couple(sizes.l_max, double, 2)
        self.edges = (
            graph.starts, graph.neighbors, graph.vectors, graph.radii, graph.scale, self.number(sizes.cutoff),
        )  # fmt: skip
        self._has_tangent = False
        self._layouts: dict[tuple[int, int, bool], Any] = {}

    # -- the passes ----------------------------------------------------------------------------

    def forward(self, scalars: np.ndarray, senders: np.ndarray) -> np.ndarray:
        """Return the scalars after the last layer, (N, S), from those before the first, and its senders."""
        count, sizes = self.count, self.sizes
        empty = self._array(count, 0)
        self.scalars = [scalars]
        self.sent: list[Sent] = [(senders, empty, empty)]
        for layer, weights in enumerate(self.weights):
            self.scalars.append(self._array(count, sizes.width))
            wide = weights.sending.sender.shape[1]
            if layer + 1 < self.layers:
                sent = (self._array(count, wide), self._array(count, 8 * wide), self._array(count, 8 * sizes.tensors))
                self.sent.append(sent)
            self.blocks.append([self._cut(layer, *part) for part in self.ranges])
            self._each(layer, self._forward)
        return self.scalars[-1]

    def pull(self, g_scalars: np.ndarray) -> np.ndarray:
        """Return the gradient by the edge vectors, (E, 3), from that by the scalars after the last layer, (N, S)."""
        self.g_scalars = [self._array(self.count, self.sizes.width) for _ in range(self.layers)] + [g_scalars]
        self.g_sent: list[Sent | None] = [None] * self.layers
        total = None
        for layer in reversed(range(self.layers)):
            self._pulled = np.zeros_like(self.graph.vectors)
            self._slabs = self._slabs_like(self.sent[layer])
            self._each(layer, self._pull)
            self.g_sent[layer] = tuple(_total(slab) for slab in self._slabs)
            total = self._pulled if total is None else total + self._pulled
        return total

    def tangent(self, v: np.ndarray) -> np.ndarray:
        """Return the change of the scalars after the last layer, (N, S), with a change ``v`` of the vectors, (E, 3)."""
        self._v = v
        self.d_scalars = [np.zeros_like(self.scalars[0])]
        self.d_sent: list[Sent] = [tuple(np.zeros_like(array) for array in self.sent[0])]
        self._bar_slabs: list[Any] = []
        for layer in range(self.layers):
            self.d_scalars.append(np.empty_like(self.scalars[layer + 1]))
            if layer + 1 < self.layers:
                self.d_sent.append(tuple(np.empty_like(array) for array in self.sent[layer + 1]))
            self._bar_slabs.append(self._slabs_like(self.sent[layer]))
            self._each(layer, self._tangent)
        self._has_tangent = True
        return self.d_scalars[-1]

    def second(self, bar_scalars: np.ndarray) -> Gradients:
        """Return the gradients of all inputs but the vectors, from that of the scalars after the last layer, (N, S).

        Those of the forces are included, along the last :meth:`tangent`; each of these counts once.
        """
        if not self._has_tangent:
            self.tangent(np.zeros_like(self.graph.vectors))
        self._has_tangent = False
        self._bar_scalars, self._bar_context = bar_scalars.copy(), np.zeros_like(bar_scalars)
        gradients, self._bar_sent = [], None
        for layer in reversed(range(self.layers)):
            self._parts = [_zeros_like(self.weights[layer]) for _ in self.ranges]
            self._each(layer, self._second)
            self._bar_sent = tuple(_total(slab) for slab in self._bar_slabs[layer])
            gradients.append(_sum_of(self._parts))
        senders = None if self.fixed_senders else self._bar_sent[0]
        return Gradients(self._bar_scalars, self._bar_context, senders, gradients[::-1])

    # -- a block in each pass ------------------------------------------------------------------

    def _forward(self, layer: int, number: int, block: _Block) -> None:
        rows, (sums, x), weights = slice(block.first, block.last), block.x, self.weights[layer]
        self._kernels(layer).value(block.first, block.last, *self.edges, *self.sent[layer], sums.sums, sums.passed)
        first_order.mix(sums, self._kinds(layer)[rows], weights.mixing)
        self._couple(x.density, x.partner, x.product)
        scalars = self.scalars[layer + 1][rows]
        first_order.update(
            x, self.graph.elements[rows], self.scalars[layer][rows], self.graph.context[rows], weights.updating, scalars
        )
        if layer + 1 < self.layers:
            first_order.send(scalars, x.tensors, weights.sending, *(array[rows] for array in self.sent[layer + 1]))

    def _pull(self, layer: int, number: int, block: _Block) -> None:
        rows, (sums, x), weights = slice(block.first, block.last), block.x, self.weights[layer]
        folded = layer == 0 and self.fixed_senders
        block.g = g_of_sums, g = self._values(layer, block.last - block.first, gates=not folded)
        if layer + 1 < self.layers:
            sent = (array[rows] for array in self.g_sent[layer + 1])
            first_order.send_back(*sent, weights.sending, self.g_scalars[layer + 1][rows], g.tensors)
        g_scalars = self.g_scalars[layer][rows]
        g_scalars[:] = self.g_scalars[layer + 1][rows]
        first_order.update_back(x, g, self.graph.elements[rows], weights.updating, g_scalars)
        from_density, from_partner = np.empty_like(x.density), np.empty_like(x.density)
        self._couple(x.partner, g.product, from_density)
        self._couple(x.density, g.product, from_partner)
        g_sums = np.empty_like(sums.sums)
        first_order.mix_back(
            sums, g_of_sums, self._kinds(layer)[rows], weights.mixing, from_density, from_partner, g_sums
        )
        self._kernels(layer).adjoint(
            block.first, block.last, *self.edges, *self.sent[layer], g_sums, g_of_sums.passed, True, layer > 0,
            self._pulled, *(slab[number] for slab in self._slabs),
        )  # fmt: skip

    def _tangent(self, layer: int, number: int, block: _Block) -> None:
        rows, (sums, x), weights = slice(block.first, block.last), block.x, self.weights[layer]
        block.d = d_sums, d = self._values(layer, block.last - block.first)
        kinds = self._kinds(layer)[rows]
        if layer == 0 and self.fixed_senders:
            self._kernels(layer).tangent(block.first, block.last, *self.edges, self.sent[0][0], self._v, d_sums.sums)
        else:
            g_sums = np.empty_like(sums.sums)
            first_order.gate_rows(block.g.sums.sums, kinds, weights.mixing.gate, g_sums)
            self._kernels(layer).second(
                block.first, block.last, *self.edges, *self.sent[layer], g_sums, block.g.sums.passed, self._v,
                *self.d_sent[layer], d_sums.sums, d_sums.passed, *(slab[number] for slab in self._bar_slabs[layer]),
            )  # fmt: skip
        second_order.mix_tangent(sums, d_sums, kinds, weights.mixing)
        self._couple_two(x.density, d.partner, d.density, x.partner, d.product)
        d_scalars = self.d_scalars[layer + 1][rows]
        second_order.update_tangent(
            x, d, self.graph.elements[rows], self.d_scalars[layer][rows], weights.updating, d_scalars
        )
        if layer + 1 < self.layers:
            sent = (array[rows] for array in self.d_sent[layer + 1])
            first_order.send(d_scalars, d.tensors, weights.sending, *sent)

    def _second(self, layer: int, number: int, block: _Block) -> None:
        rows, weights, gradients = slice(block.first, block.last), self.weights[layer], self._parts[number]
        (sums, x), (g_sums, g), (d_sums, d) = block.x, block.g, block.d
        bar_scalars, bar_tensors = self._bar_scalars[rows], np.empty_like(x.tensors)
        if layer + 1 < self.layers:
            second_order.send_second(
                tuple(array[rows] for array in self._bar_sent), tuple(array[rows] for array in self.g_sent[layer + 1]),
                x.tensors, d.tensors, self.scalars[layer + 1][rows], self.d_scalars[layer + 1][rows], weights.sending,
                gradients.sending, bar_scalars, bar_tensors,
            )  # fmt: skip
        bar_context = np.empty_like(bar_scalars)
        bar_density, bar_partner, bar_product, from_density, from_partner = (np.empty_like(x.density) for _ in range(5))
        second_order.update_second(
            x, g, d, self.graph.elements[rows], self.scalars[layer][rows], self.d_scalars[layer][rows],
            weights.updating, gradients.updating, self.g_scalars[layer + 1][rows], bar_tensors, bar_scalars,
            bar_context, bar_density, bar_partner, bar_product,
        )  # fmt: skip
        self._bar_context[rows] += bar_context
        self._couple_two(x.partner, bar_product, d.partner, g.product, from_density)
        self._couple_two(x.density, bar_product, d.density, g.product, from_partner)
        bar_sums, bar_passed = np.empty_like(sums.sums), np.empty_like(sums.passed)
        second_order.mix_second(
            sums, g_sums, d_sums, self._kinds(layer)[rows], weights.mixing, gradients.mixing, bar_density, bar_partner,
            from_density, from_partner, bar_passed, bar_sums,
        )  # fmt: skip
        if layer > 0 or not self.fixed_senders:
            self._kernels(layer).adjoint(
                block.first, block.last, *self.edges, *self.sent[layer], bar_sums, bar_passed, False, True,
                np.empty_like(self.graph.vectors[:0]), *(slab[number] for slab in self._bar_slabs[layer]),
            )  # fmt: skip

    # -- what they share -----------------------------------------------------------------------

    def _each(self, layer: int, action: Callable[[int, int, _Block], None]) -> None:
        """Call ``action`` for all blocks of a layer, threads side by side."""

        def work(number: int, first: int, last: int) -> None:
            for block in self.blocks[layer][number]:
                action(layer, number, block)

        run(work, self.ranges)

    def _cut(self, layer: int, first: int, last: int) -> list[_Block]:
        """Return the blocks, of about equal size, of a range of atoms."""
        count = last - first
        pieces = -(-count // BLOCK)
        ends = [first + count * k // pieces for k in range(pieces + 1)] if count else []
        return [_Block(a, b, self._values(layer, b - a)) for a, b in itertools.pairwise(ends)]

    def _values(self, layer: int, atoms: int, *, gates: bool = True) -> Values:
        """Return uninitialised arrays of a block, in one piece of memory."""
        places, size = self._layout(layer, atoms, gates)
        memory = self._array(size)
        arrays = [memory[start:end].reshape(shape) for start, end, shape in places]
        sums = Sums(*arrays[:5])
        return Values(sums, States(sums.density, sums.partner, *arrays[5:]))

    def _layout(self, layer: int, atoms: int, gates: bool) -> tuple[list[tuple[int, int, tuple[int, ...]]], int]:
        """Return begin, end and shape of each of these arrays, and their size together."""
        key = (layer, atoms, gates)
        if key not in self._layouts:
            sizes, (q, _, t) = self.sizes, self.sent[layer]
            shapes = first_order.shapes(
                sizes.l_max, atoms, sizes.n_radial * q.shape[1] if gates else 0, sizes.n_radial * (t.shape[1] // 8),
                sizes.channels, sizes.width, sizes.tensors if layer + 1 < self.layers else 0, sizes.kinds,
            )  # fmt: skip
            places, start = [], 0
            for shape in shapes:
                end = start + math.prod(shape)
                places.append((start, end, shape))
                start = -(-end // _LINE) * _LINE
            self._layouts[key] = places, start
        return self._layouts[key]

    def _array(self, *shape: int) -> np.ndarray:
        """Return an uninitialised array that begins on a line of the cache (PyTorch aligns, NumPy does not)."""
        return torch.empty(shape, dtype=torch.float64 if self.number is np.float64 else torch.float32).numpy()

    def _slabs_like(self, sent: Sent) -> Sent:
        """Return zeros for what atoms of all threads add to, (threads, N, ...)."""
        return tuple(np.zeros((len(self.ranges), *array.shape), array.dtype) for array in sent)

    def _kernels(self, layer: int) -> Kernels:
        q, _, t = self.sent[layer]
        sizes = self.sizes
        return kernels(self.number is np.float64, sizes.l_max, sizes.n_radial, q.shape[1], t.shape[1] // 8)

    def _kinds(self, layer: int) -> np.ndarray:
        return self.graph.kinds if layer == 0 and self.fixed_senders else self.graph.elements

    def _couple(self, x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        """Set the product on the sphere of features (M B, C)."""
        components = (self.sizes.l_max + 1) ** 2
        a, b, c = (array.reshape(components, -1) for array in (x, y, out))
        self.couple(0, a.shape[1], a, b, c)

    def _couple_two(self, x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray, out: np.ndarray) -> None:
        """Set the sum of two products on the sphere."""
        components = (self.sizes.l_max + 1) ** 2
        arrays = [array.reshape(components, -1) for array in (x, y, u, v, out)]
        self.couple_two(0, arrays[0].shape[1], *arrays)


def _zeros_like(weights: Weights) -> WeightGradients:
    """Return zeros for the gradients of a layer's weights."""
    kinds = (MixingGradients, UpdatingGradients, SendingGradients)
    return WeightGradients(
        *(
            kind(*(np.zeros_like(getattr(part, name)) for name in kind._fields))
            for kind, part in zip(kinds, weights, strict=True)
        )
    )


def _sum_of(parts: list[WeightGradients]) -> WeightGradients:
    """Return the sum over threads."""
    for other in parts[1:]:
        for mine, theirs in zip(parts[0], other, strict=True):
            for total, more in zip(mine, theirs, strict=True):
                total += more
    return parts[0]


def _total(slabs: np.ndarray) -> np.ndarray:
    """Return the sum over threads."""
    return slabs[0] if len(slabs) == 1 else slabs.sum(0)
