"""The forward and backward passes of the inference engine, block by block, in as many threads as are worth it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch

from lam.calculators.lowering import Block
from lam.model.kernels import numba_edges, numba_mix, numba_nodes
from lam.model.kernels.threads import run
from lam.model.radial import SMALLEST
from lam.model.repulsion import BOHR, COULOMB, REACH

if TYPE_CHECKING:
    from collections.abc import Callable

    from lam.calculators.engine import Atoms, Engine
    from lam.calculators.verlet import Neighbors

MOST_THREADS = 0
"""Most threads of an evaluation; 0 takes as many as PyTorch uses."""
WORTH_A_THREAD = 1500
"""Edges (an atom counts as ``_EDGES_OF_AN_ATOM``) below which another thread costs more than it saves."""
_EDGES_OF_AN_ATOM = 60


def evaluate(engine: Engine, atoms: Atoms, edges: Neighbors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energies of the atoms (N,), forces (N, 3), and dE/d(strain) of the structures (G, 3, 3), float64."""
    job = _Passes(engine, atoms, edges)
    last = engine.config.n_layers - 1
    for layer in range(last):
        job.each_block(layer, job.forward)
    job.each_block(last, job.turn)
    for layer in reversed(range(last)):
        job.each_block(layer, job.back)
    return job.energies, job.forces.sum(0), job.virials.sum(0)


class _Passes:
    """One evaluation: the arrays of all atoms, and what is done with a block of them.

    ``number`` is that of a thread, which has slabs of its own for what different atoms add to.
    """

    def __init__(self, engine: Engine, atoms: Atoms, edges: Neighbors) -> None:
        self.engine, self.atoms, self.edges, self.space = engine, atoms, edges, engine.workspace
        config = engine.config
        count, width, layers = len(atoms.numbers), config.scalar_channels, config.n_layers
        self.ranges = _shares(edges.starts)
        threads = len(self.ranges)
        self.pulls = self.space.get("pulls", *edges.vectors.shape)
        self.energies = atoms.references.copy()
        self.forces = np.zeros((threads, count, 3))
        self.virials = np.zeros((threads, atoms.n_structures, 3, 3))
        self.scalars = [atoms.scalars, *(self.space.get(("scalars", i), count, width) for i in range(1, layers))]
        self.g_scalars = self.space.get("g_scalars", count, width) if layers > 1 else None
        self.keep = count * engine.kept_per_atom <= engine.keep_bytes
        nothing = np.empty((count, 0), engine.number)
        sizes = (config.sender_channels, 8 * config.sender_channels, 8 * config.tensor_channels)
        self.sent = [(atoms.first.senders, nothing, nothing)]
        self.pulled = [tuple(np.empty((threads, *array.shape), engine.number) for array in self.sent[0])]
        for layer in range(1, layers):
            self.sent.append(tuple(self.space.get(("sent", layer, k), count, n) for k, n in enumerate(sizes)))
            slabs = tuple(self.space.get(("pulled", layer, k), threads, count, n) for k, n in enumerate(sizes))
            self.pulled.append(slabs)
        self.fixed = (
            edges.starts, edges.neighbors, edges.vectors, atoms.radii, engine.scale, engine.number(config.cutoff),
        )  # fmt: skip

    def each_block(self, layer: int, action: Callable[[int, int, int, int], None]) -> None:
        """Call ``action(layer, number, first, last)`` for all blocks of atoms, threads side by side."""

        def work(number: int, first: int, last: int) -> None:
            if action == self.turn:
                self.repel(number, first, last)
            if action != self.forward:
                for slab in self.pulled[layer] if layer else ():
                    slab[number] = 0.0
            step = self.engine.block_atoms
            blocks = -(-(last - first) // step)
            for k in range(blocks):  # of about equal size
                action(layer, number, first + (last - first) * k // blocks, first + (last - first) * (k + 1) // blocks)

        run(work, self.ranges)

    def repel(self, number: int, first: int, last: int) -> None:
        """Add the repulsion, if the model has one."""
        if self.engine.model.repulsion is None:
            return
        rows, neighbors, vectors, radii, _, cutoff = self.fixed
        numba_edges.repel(
            first, last, rows, neighbors, vectors, radii, self.atoms.numbers, float(cutoff), REACH, COULOMB, BOHR,
            SMALLEST, self.atoms.structure, self.energies, self.forces[number], self.virials[number],
        )  # fmt: skip

    def forward(self, layer: int, number: int, first: int, last: int) -> None:
        """Fill scalars and senders of the next layer for a block of atoms."""
        kept = self.kept(layer, number, first, last)
        weights, scalars = self.engine.weights[layer], self.scalars[layer + 1][first:last]
        self.receive(layer, number, first, last, kept, scalars)
        q, T, t = (array[first:last] for array in self.sent[layer + 1])
        numba_nodes.send(scalars, weights, kept, q, T, t)

    def turn(self, layer: int, number: int, first: int, last: int) -> None:
        """The last layer: forward, energies, and backward."""
        space, atoms, count = self.space, self.atoms, last - first
        kept = self.kept(layer, number, first, last)
        width = self.engine.config.scalar_channels
        scalars, energies = space.get(("out", number), count, width), space.get(("energies", number), count)
        self.receive(layer, number, first, last, kept, scalars)
        if self.g_scalars is None:
            g_scalars = space.get(("g", number), count, width)
        else:
            g_scalars = self.g_scalars[first:last]
        numba_nodes.read_out(scalars, atoms.tasks[first:last], self.engine.readout, energies, g_scalars)
        self.energies[first:last] += energies
        self.push_back(layer, number, first, last, kept, g_scalars, space.get(("none", number), 0, 0))

    def back(self, layer: int, number: int, first: int, last: int) -> None:
        """An earlier layer: backward from what the later layers ask of scalars and senders."""
        kept = self.kept(layer, number, first, last)
        if not self.keep:
            scalars = self.space.get(("out", number), last - first, self.engine.config.scalar_channels)
            self.receive(layer, number, first, last, kept, scalars)
        g_scalars = self.g_scalars[first:last]
        g_tensors = self.space.get(("g_tensors", number), *kept.tensors.shape)
        slabs = (slab[:, first:last] for slab in self.pulled[layer + 1])
        numba_nodes.send_back(*slabs, self.engine.weights[layer], kept, g_scalars, g_tensors)
        self.push_back(layer, number, first, last, kept, g_scalars, g_tensors)

    # -- the steps of a block ------------------------------------------------------------------

    def kept(self, layer: int, number: int, first: int, last: int) -> Block:
        """Return the arrays for what the backward pass needs of the forward."""
        config, count = self.engine.config, last - first
        m, last_layer = (config.l_max + 1) ** 2, layer == config.n_layers - 1
        tensors = 0 if last_layer else config.tensor_channels
        name = (layer, first) if self.keep and not last_layer else (tensors, -1 - number)
        rows, tensor_rows = (m * count, config.channels), (8 * count, tensors)
        shapes = (
            rows, (count,), rows, rows, rows, (count, config.scalar_channels),
            tensor_rows, tensor_rows, (count, tensors), (count,),
        )  # fmt: skip
        return Block(*(self.space.get((field, *name), *s) for field, s in zip(Block._fields, shapes, strict=True)))

    def sums(self, layer: int, number: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the arrays for the sums over neighbours."""
        config, (q, _, t) = self.engine.config, self.sent[layer]
        components, n = (config.l_max + 1) ** 2, config.radial_functions
        a = self.space.get(("sums", number), components, count, n * q.shape[1])
        return a, self.space.get(("passed", number), 8, count, n * (t.shape[1] // 8))

    def receive(self, layer: int, number: int, first: int, last: int, kept: Block, scalars: np.ndarray) -> None:
        """Fill what is kept of a block, and its new scalars, from its neighbours."""
        engine, atoms = self.engine, self.atoms
        weights, numbers = engine.weights[layer], atoms.numbers[first:last]
        a, p = self.sums(layer, number, last - first)
        trick = atoms.first.combined is not None and layer == 0
        compiled = engine.kernels_of_first(atoms.first) if layer == 0 else engine.kernels[layer]
        compiled.value(first, last, *self.fixed, *self.sent[layer], a, p)
        if trick:
            numba_mix.mix_elements(a, atoms.kinds[first:last], atoms.first.combined, weights, kept)
        else:
            numba_mix.mix(a, p, numbers, weights, kept)
        self.couple(kept.density, kept.partner, kept.product)
        numba_nodes.update(
            self.scalars[layer][first:last], numbers, atoms.context, atoms.context_rows[first:last],
            weights, kept, scalars,
        )  # fmt: skip

    def push_back(
        self, layer: int, number: int, first: int, last: int, kept: Block, g_scalars: np.ndarray, g_tensors: np.ndarray
    ) -> None:
        """Take the cotangents of a block's new scalars and tensors back to senders, forces and virial."""
        engine, atoms, edges, space = self.engine, self.atoms, self.edges, self.space
        weights, numbers = engine.weights[layer], atoms.numbers[first:last]
        shape = kept.density.shape
        g_density, g_partner, g_product, more_density, more_partner = (
            space.get((name, number), *shape) for name in ("g_d", "g_b", "g_p", "more_d", "more_b")
        )
        numba_nodes.update_back(numbers, weights, kept, g_scalars, g_tensors, g_density, g_partner, g_product)
        self.couple(kept.partner, g_product, more_density)
        self.couple(kept.density, g_product, more_partner)
        a, p = self.sums(layer, number, last - first)
        more = (kept, g_density, g_partner, more_density, more_partner)
        if layer == 0 and atoms.first.combined is not None:
            numba_mix.mix_elements_back(atoms.kinds[first:last], atoms.first.combined_back, weights, *more, a)
        else:
            numba_mix.mix_back(numbers, weights, *more, a, p)
        compiled = engine.kernels_of_first(atoms.first) if layer == 0 else engine.kernels[layer]
        slabs = (slab[number] for slab in self.pulled[layer])
        compiled.adjoint(first, last, *self.fixed, *self.sent[layer], a, p, True, layer > 0, self.pulls, *slabs)
        numba_edges.collect(
            first, last, edges.starts, edges.neighbors, edges.vectors, self.pulls, atoms.structure,
            self.forces[number], self.virials[number],
        )  # fmt: skip

    def couple(self, x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        """Fill ``out`` with the product on the sphere of features (M B, C)."""
        components = (self.engine.config.l_max + 1) ** 2
        a, b, c = (array.reshape(components, -1) for array in (x, y, out))
        self.engine.couple(0, a.shape[1], a, b, c)


def _shares(starts: np.ndarray) -> list[tuple[int, int]]:
    """Split the centres into contiguous ranges of about equal work, one for each thread worth using."""
    count = len(starts) - 1
    work = starts + _EDGES_OF_AN_ATOM * np.arange(count + 1)
    threads = max(1, min(MOST_THREADS or torch.get_num_threads(), int(work[-1]) // WORTH_A_THREAD, count))
    cuts = np.searchsorted(work, work[-1] * np.arange(1, threads) / threads)
    ends = [0, *cuts.tolist(), count]
    return [(first, last) for first, last in itertools.pairwise(ends) if last > first]
