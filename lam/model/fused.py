"""Training on CPUs: energies and forces of a batch as two operations of autograd, whose gradients are written out.

The same numbers as :class:`~lam.model.backbone.Backbone` and its derivatives, without a graph of small operations:
:class:`_Scalars` gives the atoms' scalars, :class:`_Pull` the gradient of the energy by the edge vectors, which the
first's work is needed for. Autograd goes backward through the second first, since that depends on the first's
result: it takes tangents there, and then, in the first, the gradients of all weights.

What is asked for there must not be differentiated again by the vectors, so this serves trainings: elsewhere the
backbone itself is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lam import keys
from lam.model.backbone import Backbone
from lam.model.kernels import backend_for
from lam.model.kernels.shares import shares
from lam.model.kernels.threads import run
from lam.model.layer import Layer
from lam.model.radial import SMALLEST
from lam.model.repulsion import BOHR, COULOMB, REACH

ENABLED = True
"""Is this way taken where it can be? Code that changes classes of the model in place must set it to False."""
_SLOTS = (2, 4, 8)
"""Numbers of elements of a structure for which the first layer has kernels of its own."""


class Kinds(NamedTuple):
    """What atoms of the first layer are told apart by: their element, and the elements that their structure has.

    A structure's elements have slots, so that a sender is a one in the slot of its element.
    """

    of_atoms: Tensor
    """(N,)."""
    elements: Tensor
    """Atomic number of each kind, (Z,)."""
    slots: Tensor
    """Atomic numbers of the elements in the slots, 0 where there is none, (Z, Q)."""
    senders: Tensor
    """(N, Q)."""


def serves(backbone: Backbone, graph: dict[str, Tensor]) -> bool:
    """Can forces be trained on this way: on a CPU with Numba, and is nothing to be differentiated by positions?"""
    positions, weight = graph[keys.POSITIONS], backbone.element.weight
    return (
        ENABLED
        and positions.device.type == "cpu"
        and len(positions) > 0
        and not (positions.requires_grad or graph[keys.CELL].requires_grad)
        and backend_for(weight.device, weight.dtype, backbone.config.radial_functions) == "numba"
    )


class Geometry:
    """The edges of a batch as arrays, and what their gradients mean for atoms and structures.

    Args:
        graph: the batch, edges sorted by centre.
        dtype: precision of the vectors, which are formed in that of the positions.
        radii: covalent radii of the atoms, Angstrom, (N,).
        cutoff: Angstrom.
    """

    def __init__(self, graph: dict[str, Tensor], dtype: torch.dtype, radii: Tensor, cutoff: float) -> None:
        neighbors, centers = (_array(row) for row in graph[keys.EDGE_INDEX])
        positions = _array(graph[keys.POSITIONS])
        cells, shifts = (_array(graph[name]).astype(positions.dtype) for name in (keys.CELL, keys.EDGE_SHIFT))
        self.numbers, self.structure = _array(graph[keys.ATOMIC_NUMBERS]), _array(graph[keys.BATCH])
        self.radii, self.cutoff, self.n_structures = _array(radii.to(dtype)), cutoff, len(cells)
        counts = np.bincount(centers, minlength=len(positions))
        self.starts, self.neighbors = np.concatenate([[0], np.cumsum(counts)]), neighbors
        self.vectors = np.empty((len(neighbors), 3), self.radii.dtype)
        self._ranges = shares(self.starts)
        fixed = (self.starts, self.neighbors, positions, shifts, cells, self.structure, self.vectors)
        self._run("measure", lambda _: fixed)

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""
        return len(self.starts) - 1

    def repulsion(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return energies of the atoms (N,), forces (N, 3) and virials (G, 3, 3) of the screened nuclear repulsion."""
        energies, forces, virials = np.zeros(self.n_atoms), *self._slabs()
        fixed = (
            self.starts, self.neighbors, self.vectors, self.radii, self.numbers, float(self.cutoff), REACH, COULOMB,
            BOHR, SMALLEST, self.structure, energies,
        )  # fmt: skip
        self._run("repel", lambda number: (*fixed, forces[number], virials[number]))
        return self._tensors(energies, forces.sum(0), virials.sum(0))

    def collect(self, pull: Tensor) -> tuple[Tensor, Tensor]:
        """Return forces (N, 3) and virials (G, 3, 3) of the gradient by the edge vectors, (E, 3)."""
        return _Collect.apply(self, pull)

    def collected(self, pull: np.ndarray) -> tuple[Tensor, ...]:
        """Do what :meth:`collect` does, without a gradient."""
        forces, virials = self._slabs()
        fixed = (self.starts, self.neighbors, self.vectors, pull, self.structure)
        self._run("collect", lambda number: (*fixed, forces[number], virials[number]))
        return self._tensors(forces.sum(0), virials.sum(0))

    def spread(self, g_forces: np.ndarray, g_virials: np.ndarray) -> Tensor:
        """Return the gradient of :meth:`collect`."""
        out = np.empty_like(self.vectors)
        symmetric = 0.5 * (g_virials + g_virials.swapaxes(1, 2))
        fixed = (self.starts, self.neighbors, self.vectors, self.structure, g_forces, symmetric, out)
        self._run("spread", lambda _: fixed)
        return torch.from_numpy(out)

    def _run(self, name: str, arguments: Callable[[int], tuple[Any, ...]]) -> None:
        from lam.model.kernels import numba_edges

        function = getattr(numba_edges, name)
        run(lambda number, first, last: function(first, last, *arguments(number)), self._ranges)

    def _slabs(self) -> tuple[np.ndarray, np.ndarray]:
        threads = len(self._ranges)
        return np.zeros((threads, self.n_atoms, 3)), np.zeros((threads, self.n_structures, 3, 3))

    def _tensors(self, *arrays: np.ndarray) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array.astype(self.vectors.dtype)) for array in arrays)


class _Collect(torch.autograd.Function):
    """Forces and virials of the gradient by the edge vectors: linear."""

    @staticmethod
    def forward(ctx: Any, geometry: Geometry, pull: Tensor) -> tuple[Tensor, ...]:
        ctx.geometry = geometry
        return geometry.collected(_array(pull))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_forces: Tensor, g_virials: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.geometry.spread(_array(g_forces), _array(g_virials))


class FusedBackbone:
    """One batch through the backbone.

    Args:
        backbone: the backbone.
        graph: the batch.
        geometry: its edges.
    """

    def __init__(self, backbone: Backbone, graph: dict[str, Tensor], geometry: Geometry) -> None:
        from lam.model.kernels import training

        config, numbers = backbone.config, graph[keys.ATOMIC_NUMBERS]
        dtype = backbone.element.weight.dtype
        elements, of_atoms = torch.unique(numbers, return_inverse=True)
        kinds = kinds_of(numbers, graph[keys.BATCH], config.sender_channels, dtype)
        scalars, context = backbone.element(numbers), backbone.context(graph)
        layers = list(backbone.layers)
        senders = kinds.senders if kinds else layers[0].message.sender(scalars)
        self._weights = []
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            combined = _combined(backbone, kinds) if kinds and layer is layers[0] else None
            self._weights.append(_lowered(layer, following, elements, combined))
        sizes = training.Sizes(
            config.l_max, config.radial_functions, config.channels, config.scalar_channels,
            config.tensor_channels if config.n_layers > 1 else 0, layers[0].product.kinds, config.cutoff,
        )  # fmt: skip
        batch = training.Graph(
            geometry.starts, geometry.neighbors, geometry.vectors, geometry.radii,
            _array(backbone.radial.scale.to(dtype)), _array(of_atoms),
            _array(kinds.of_atoms if kinds else of_atoms), _array(context),
        )  # fmt: skip
        arrays = [_with_transposed(weights) for weights in self._weights]
        self._passes = training.Passes(sizes, arrays, batch, kinds is not None)
        flat = [tensor for weights in self._weights for tensor in weights.values()]
        self.scalars: Tensor = _Scalars.apply(self, scalars, context, senders, *flat)
        """Scalars of the atoms, (N, S)."""

    def pull(self, g_scalars: Tensor) -> Tensor:
        """Return the gradient by the edge vectors, (E, 3), from that by the scalars, (N, S)."""
        return _Pull.apply(self, g_scalars)

    def gradients(self, bar: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs of :class:`_Scalars`."""
        found = self._passes.second(_array(bar))
        senders = None if found.senders is None else torch.from_numpy(found.senders)
        flat = [
            torch.from_numpy(getattr(part, name))
            for of_layer in found.weights
            for part in of_layer
            for name in part._fields
        ]
        return torch.from_numpy(found.scalars), torch.from_numpy(found.context), senders, *flat


class _Scalars(torch.autograd.Function):
    """The scalars after the last layer, of embeddings, bias of charge and spin, first senders and all weights."""

    @staticmethod
    def forward(
        ctx: Any, owner: FusedBackbone, scalars: Tensor, context: Tensor, senders: Tensor, *_: Tensor
    ) -> Tensor:
        ctx.owner = owner
        return torch.from_numpy(owner._passes.forward(_array(scalars), _array(senders)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, bar: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.owner.gradients(bar)


class _Pull(torch.autograd.Function):
    """The gradient by the vectors, of that by the scalars."""

    @staticmethod
    def forward(ctx: Any, owner: FusedBackbone, g_scalars: Tensor) -> Tensor:
        ctx.owner = owner
        return torch.from_numpy(owner._passes.pull(_array(g_scalars)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        return None, torch.from_numpy(ctx.owner._passes.tangent(_array(v)))


def kinds_of(numbers: Tensor, batch: Tensor, most: int, dtype: torch.dtype) -> Kinds | None:
    """Tell apart the atoms of the first layer; None where that does not pay.

    Args:
        numbers: atomic numbers, (N,).
        batch: structure of each atom, (N,).
        most: number of sender channels, which the slots must be fewer than.
        dtype: of the senders.
    """
    pairs, of_atoms = np.unique(batch.numpy() * 256 + numbers.numpy(), return_inverse=True)
    structures, elements = np.divmod(pairs, 256)
    new = np.append(True, structures[1:] != structures[:-1])
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(pairs)))
    slots = next((size for size in _SLOTS if size >= counts.max()), None)
    if slots is None or slots >= most:
        return None
    slot = np.arange(len(pairs)) - np.repeat(starts, counts)
    table = np.zeros((len(starts), slots), np.int64)
    table[np.repeat(np.arange(len(starts)), counts), slot] = elements
    keyed = np.column_stack([elements, np.repeat(table, counts, axis=0)])
    found, kind = np.unique(keyed, axis=0, return_inverse=True)
    if 2 * len(found) > len(of_atoms):  # maps for each kind would cost as much as they save
        return None
    senders = np.zeros((len(of_atoms), slots))
    senders[np.arange(len(of_atoms)), slot[of_atoms]] = 1.0
    return Kinds(
        torch.from_numpy(kind.reshape(-1)[of_atoms]),
        torch.from_numpy(found[:, 0].copy()),
        torch.from_numpy(found[:, 1:].copy()),
        torch.from_numpy(senders).to(dtype),
    )


def _combined(backbone: Backbone, kinds: Kinds) -> Tensor:
    """Return the first layer's maps for senders that are their element: of each kind, (Z, L + 1, n Q, C).

    The element's sender, the centre's gate and the map of the layer in one.
    """
    message = backbone.layers[0].message
    n_radial, channels, degrees = backbone.config.radial_functions, backbone.config.channels, backbone.config.l_max + 1
    there = (kinds.slots > 0).to(backbone.element.weight.dtype)
    q = message.sender(backbone.element(kinds.slots)) * there[:, :, None]  # (Z, Q, S)
    z, slots, senders = q.shape
    gate = 1.0 + message.gate(kinds.elements).view(z, n_radial, 1, senders)
    gated = (q[:, None] * gate).transpose(0, 1).reshape(n_radial, z * slots, senders)
    mix = (message.mix.weight * _scale(message)).view(degrees, n_radial, senders, channels)
    maps = mix.permute(1, 2, 0, 3).reshape(n_radial, senders, degrees * channels)
    found = torch.bmm(gated, maps).view(n_radial, z, slots, degrees, channels)
    return found.permute(1, 3, 0, 2, 4).reshape(z, degrees, n_radial * slots, channels)


def _scale(message: Any) -> Tensor:
    """Return the scale of each degree's map, (L + 1, 1, 1)."""
    degrees = len(message.mix.weight)
    return message.scale[[degree * degree for degree in range(degrees)]]


def _lowered(layer: Layer, following: Layer | None, elements: Tensor, combined: Tensor | None) -> dict[str, Tensor]:
    """Return a layer's weights by name, in the order of their gradients (:mod:`lam.model.kernels.numba_block`)."""
    message, product = layer.message, layer.product
    degrees, width, channels = len(message.mix.weight), layer.update.in_features, product.channels
    pairs = message.gate.embedding_dim
    mix = message.mix.weight * _scale(message)
    none = mix.new_zeros
    passing = none(0, 0, 0)
    if not message.first:
        mix, passing = mix.split([pairs, mix.shape[1] - pairs], dim=1)
        passing = passing[1:3]
    norms = (2.0 * torch.arange(degrees, dtype=mix.dtype) + 1.0).rsqrt().repeat(product.kinds)
    norms = torch.cat([norms.new_ones(1), norms])[:, None, None]
    invariant = layer.invariant.weight.view(width, len(norms), channels).permute(1, 2, 0) * norms
    found = {
        "gate": none(0, 0) if combined is not None else 1.0 + message.gate(elements),
        "mix": none(0, 0, 0) if combined is not None else mix,
        "combined": none(0, 0, 0, 0) if combined is None else combined,
        "passing": passing,
        "partner": product.partner.weight,
        "second": none(0, 0, 0) if product.product_partner is None else product.product_partner.weight,
        "invariant": invariant,
        "invariant_bias": layer.invariant.bias,
        "gain": 1.0 + layer.element_gain(elements),
        "residual": layer.from_scalars.weight.T,
        "update": layer.update.weight.T,
        "update_bias": layer.update.bias,
        "tensors": none(0, 0, 0, 0),
        "tensor_gate": none(width, 0),
        "tensor_bias": none(0),
        "sender": none(width, 0),
        "seen": none(0, 0, 0),
    }
    if layer.to_tensors is not None and following is not None:
        weight, along = layer.to_tensors.weight, following.message.along_bond.weight
        found |= {
            "tensors": weight.view(2, 2, channels, weight.shape[-1]),
            "tensor_gate": layer.tensor_gate.weight.T,
            "tensor_bias": layer.tensor_gate.bias,
            "sender": following.message.sender.weight.T,
            "seen": along.view(along.shape[0], 2, -1).permute(1, 2, 0),
        }
    return found


def _with_transposed(weights: dict[str, Tensor]) -> Any:
    """Return the arrays of the weights and their transposed."""
    from lam.model.kernels.numba_block import Mixing, Sending, Updating
    from lam.model.kernels.training import Weights

    def of(name: str) -> np.ndarray:
        if name.endswith("_back"):
            return np.ascontiguousarray(arrays[name.removesuffix("_back")].swapaxes(-1, -2))
        return arrays[name]

    arrays = {name: _array(tensor) for name, tensor in weights.items()}
    return Weights(*(kind(*(of(name) for name in kind._fields)) for kind in (Mixing, Updating, Sending)))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()
