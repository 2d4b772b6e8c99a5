"""How much arithmetic and memory traffic a model needs per atom, counted from its architecture.

Operations are additions and multiplications that the equations of docs/architecture.md need in the order in which they
are computed: nothing for padding, nothing for what a lowering does twice. A matrix product is counted once forward;
once more for the gradient by its input (forces); and for a training step four times more, since the gradients by input
and by weights of both of these follow. A product of two features is counted 1, 3 and 9 times. Traffic is what
operators pass to one another: every array written once and read once where it is needed, weights not (many atoms share
them), and what is gathered from neighbours once.

With fixed weights less is needed: what a sender of the first layer is depends on its element alone, so a sum over
neighbours for each of a few elements is enough, and the gate and the mix are one matrix. That is what the inference
engine does, and ``elements`` counts it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lam.model.angular import quadrature
from lam.model.config import ModelConfig

FLOAT = 4  # bytes
TENSORS = 8  # components of l = 1, 2
_EDGE = 12 + 8  # bytes of an edge: vector, index of the neighbour


@dataclass(frozen=True)
class Work:
    """Needed for one atom.

    Attributes:
        flop: additions and multiplications.
        bytes: traffic with memory.
    """

    flop: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.bytes + other.bytes)

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flop / self.bytes

    def seconds(self, flop_per_second: float, bytes_per_second: float) -> float:
        """Return the least time on a machine with these peaks."""
        return max(self.flop / flop_per_second, self.bytes / bytes_per_second)


@dataclass(frozen=True)
class Stages:
    """Work of the three things that are done with a model.

    Attributes:
        energy: forward.
        forces: energy, forces and stress.
        training: a step on forces.
    """

    energy: Work
    forces: Work
    training: Work

    def __add__(self, other: Stages) -> Stages:
        return Stages(self.energy + other.energy, self.forces + other.forces, self.training + other.training)


def needed(config: ModelConfig, neighbors: float, elements: int | None = None) -> dict[str, Stages]:
    """Return part of the model -> work per atom.

    Args:
        config: the architecture.
        neighbors: mean number of neighbours within the cutoff.
        elements: number of elements, where weights are fixed; ``None`` counts the equations as they stand.
    """
    last = config.n_layers - 1
    parts: dict[str, Stages] = {}
    for layer in range(config.n_layers):
        first = layer == 0
        for name, stages in (
            ("messages", message(config, neighbors, first=first, elements=elements)),
            ("node products", nodes(config, first=first, last=layer == last, elements=elements)),
        ):
            parts[name] = parts[name] + stages if name in parts else stages
    parts["readout"] = matrix(config.scalar_channels, config.readout_channels)
    return parts


def total(config: ModelConfig, neighbors: float, elements: int | None = None) -> Stages:
    """Return the work of the whole model per atom."""
    parts = list(needed(config, neighbors, elements).values())
    return sum(parts[1:], parts[0])


def senders_of(config: ModelConfig, elements: int | None, *, first: bool) -> int:
    """Return the sender channels that have to be summed in a layer."""
    return min(elements, config.sender_channels) if first and elements else config.sender_channels


def message(config: ModelConfig, neighbors: float, *, first: bool, elements: int | None = None) -> Stages:
    """Return the work of the sum over neighbours of one layer: forward, adjoint, and the adjoint's gradient."""
    components, radial = (config.l_max + 1) ** 2, config.radial_functions
    senders = senders_of(config, elements, first=first)
    passed = 0 if first else TENSORS * config.tensor_channels * radial  # pairs of the pass-through
    seen = 0 if first else TENSORS * senders  # products of the neighbour's tensors with Y
    pairs = senders * radial
    outer = 2 * components * pairs  # the outer product with the harmonics, summed
    geometry = 120 + 14 * radial + {1: 10, 2: 35, 3: 80}[config.l_max]
    value = geometry + 2 * seen + pairs + outer + 2 * passed
    # The gradients by the harmonics and by the pairs, then by radial functions and (not in the first layer) senders.
    adjoint = 2 * geometry + 2 * seen + pairs + 2 * outer + 2 * pairs
    if not first:
        adjoint += 2 * pairs + 4 * seen + 4 * passed
    # As the adjoint, of products in which one factor is a derivative: twice the terms.
    second = 2 * geometry + 4 * seen + 3 * pairs + 4 * outer + 4 * pairs + 6 * seen + 6 * passed
    by_senders = geometry + 2 * seen + outer + 2 * pairs + 2 * seen + 2 * passed
    atom = FLOAT * (senders + seen + (0 if first else TENSORS * config.tensor_channels))
    sums = FLOAT * (components * pairs + passed)
    edges = neighbors * _EDGE
    written = neighbors * 12  # gradient by the edge vector
    forward = Work(neighbors * value, edges + atom + sums)
    back = Work(neighbors * adjoint, edges + 2 * atom + sums + written)
    again = Work(neighbors * second, edges + written + 3 * atom + 2 * sums)
    backward = Work(neighbors * by_senders, edges + 2 * atom + sums)
    return Stages(forward, forward + back, forward + back + again + backward)


def nodes(config: ModelConfig, *, first: bool, last: bool, elements: int | None = None) -> Stages:
    """Return the work at the atom of one layer."""
    components, channels, width = (config.l_max + 1) ** 2, config.channels, config.scalar_channels
    degrees, kinds = config.l_max + 1, 3 if config.fourth_order else 2
    pairs = senders_of(config, elements, first=first) * config.radial_functions
    tensors = config.tensor_channels
    parts = [
        matrix(pairs, channels, components),
        pointwise(components * channels, 4),  # the soft normalisation
        matrix(channels, channels, components),
        bilinear(2 * components * channels, components * channels, float(coupling(config.l_max) * channels)),
        bilinear((kinds + 1) * components * channels, kinds * degrees * channels, 2.0 * kinds * components * channels),
        matrix((kinds * degrees + 1) * channels, width),
        matrix(width, width),
        matrix(width, width),
        pointwise(width, 6),
    ]
    if config.fourth_order:
        parts.append(matrix(channels, channels, components))  # the product's own partner
    if not (first and elements):
        parts += [matrix(width, config.sender_channels), pointwise(components * pairs)]  # the senders; the gate
    if not first:
        parts += [matrix(tensors, config.sender_channels, TENSORS)]
        parts += [matrix(tensors * config.radial_functions, channels, TENSORS)]
    if not last:
        parts += [matrix(2 * channels, tensors, TENSORS), matrix(width, tensors), pointwise(TENSORS * tensors, 5)]
    return sum(parts[1:], parts[0])


def matrix(n_in: int, n_out: int, rows: int = 1) -> Stages:
    """Return the work of ``rows`` vectors of ``n_in`` times a matrix of weights ``n_in`` by ``n_out``."""
    return between(rows * n_in, rows * n_out, 2.0 * rows * n_in * n_out)


def between(n_in: int, n_out: int, flop: float) -> Stages:
    """Return the work of an operator that reads ``n_in`` numbers, writes ``n_out`` and does ``flop`` operations."""
    once = Work(flop, FLOAT * (n_in + n_out))
    twice = once + once
    return Stages(once, twice, Work(6 * once.flop, 6 * once.bytes))


def bilinear(n_in: int, n_out: int, flop: float) -> Stages:
    """Return the work of a product of two features, ``n_in`` numbers together, with ``n_out`` results."""
    once = Work(flop, FLOAT * (n_in + n_out))
    return Stages(once, Work(3 * once.flop, 3 * once.bytes), Work(9 * once.flop, 9 * once.bytes))


def coupling(l_max: int) -> int:
    """Return the operations of one product on the sphere, projected on degrees up to ``l_max``.

    That is ``p_m = sum_ab G_mab x_a y_b`` over the Gaunt coefficients that are not zero; these are symmetric, so that
    ``x_a y_b + x_b y_a`` is formed once for all m.
    """
    to_grid, from_grid = (matrix.numpy() for matrix in quadrature(l_max))
    used = abs(np.einsum("mp,pa,pb->mab", from_grid, to_grid, to_grid)) > 1e-12
    upper = used & np.triu(np.ones(used.shape[1:], dtype=bool))
    pairs = upper.any(axis=0)
    squares = int(np.diag(pairs).sum())
    return 2 * int(upper.sum()) + 3 * (int(pairs.sum()) - squares) + squares


def pointwise(n: int, operations: int = 1) -> Stages:
    """Return the work on ``n`` numbers one by one, done while a neighbouring operator has them in hand."""
    flop = float(operations * n)
    return Stages(Work(flop), Work(3 * flop), Work(8 * flop))
