"""The forward and backward passes of the inference engine, block by block, in as many threads as are worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lam.model.kernels import numba_edges, numba_mix, numba_nodes
from lam.model.kernels.shares import shares
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
"""Edges (an atom counts as ``_EDGES_OF_AN_ATOM``) below which another thread costs more than it saves.

Threads wait for each other after every pass, and for the interpreter between kernels."""
_EDGES_OF_AN_ATOM = 60


class Part(NamedTuple):
    """A block of atoms in one pass."""

    layer: int
    number: int
    """Of the thread."""
    block: int
    """Which one of the thread's blocks."""
    first: int
    last: int
    """The atom behind the last one."""


class Block(NamedTuple):
    """What a block keeps from its forward for its backward pass; B atoms. Zero-sized tensors in the last layer."""

    density: np.ndarray
    """Normalised, (M B, C)."""
    factor: np.ndarray
    """Of the normalisation, (B,)."""
    partner: np.ndarray
    product: np.ndarray
    second: np.ndarray
    hidden: np.ndarray
    """Before the activation, (B, S)."""
    tensors: np.ndarray
    """Normalised, (8 B, C_t)."""
    ungated: np.ndarray
    opening: np.ndarray
    """Of the tensors' gate, (B, C_t)."""
    tensor_factor: np.ndarray


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
        self.ranges = shares(
            edges.starts, MOST_THREADS or None, edges_of_an_atom=_EDGES_OF_AN_ATOM, worth_a_thread=WORTH_A_THREAD
        )
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

    def each_block(self, layer: int, action: Callable[[Part], None]) -> None:
        """Call ``action`` for all blocks of atoms, threads side by side."""

        def work(number: int, first: int, last: int) -> None:
            if action == self.turn:
                self.repel(number, first, last)
            if action != self.forward:
                for slab in self.pulled[layer] if layer else ():
                    slab[number] = 0.0
            count = last - first
            blocks = -(-count // self.engine.block_atoms)
            for k in range(blocks):  # of about equal size
                action(Part(layer, number, k, first + count * k // blocks, first + count * (k + 1) // blocks))

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

    def forward(self, part: Part) -> None:
        """Fill scalars and senders of the next layer for a block of atoms."""
        kept, following = self.kept(part), part.layer + 1
        scalars = self.scalars[following][part.first : part.last]
        self.receive(part, kept, scalars)
        q, T, t = (array[part.first : part.last] for array in self.sent[following])
        numba_nodes.send(scalars, self.engine.weights[part.layer], kept, q, T, t)

    def turn(self, part: Part) -> None:
        """The last layer: forward, energies, and backward."""
        space, atoms, number = self.space, self.atoms, part.number
        count, rows = part.last - part.first, slice(part.first, part.last)
        kept = self.kept(part)
        width = self.engine.config.scalar_channels
        scalars, energies = space.get(("out", number), count, width), space.get(("energies", number), count)
        self.receive(part, kept, scalars)
        g_scalars = space.get(("g", number), count, width) if self.g_scalars is None else self.g_scalars[rows]
        numba_nodes.read_out(scalars, atoms.tasks[rows], self.engine.readout, energies, g_scalars)
        self.energies[rows] += energies
        self.push_back(part, kept, g_scalars, space.get(("none", number), 0, 0))

    def back(self, part: Part) -> None:
        """An earlier layer: backward from what the later layers ask of scalars and senders."""
        layer, number, _, first, last = part
        kept = self.kept(part)
        if not self.keep:
            self.receive(part, kept, self.space.get(("out", number), last - first, self.engine.config.scalar_channels))
        g_scalars = self.g_scalars[first:last]
        g_tensors = self.space.get(("g_tensors", number), *kept.tensors.shape)
        slabs = (slab[:, first:last] for slab in self.pulled[layer + 1])
        numba_nodes.send_back(*slabs, self.engine.weights[layer], kept, g_scalars, g_tensors)
        self.push_back(part, kept, g_scalars, g_tensors)

    # -- the steps of a block ------------------------------------------------------------------

    def kept(self, part: Part) -> Block:
        """Return the arrays for what the backward pass needs of the forward."""
        config, count = self.engine.config, part.last - part.first
        m, last_layer = (config.l_max + 1) ** 2, part.layer == config.n_layers - 1
        tensors = 0 if last_layer else config.tensor_channels
        # Not by the first atom: structures of ever new sizes would bring ever new names.
        again = not self.keep or last_layer
        name = ("again", tensors, part.number) if again else ("kept", part.layer, part.number, part.block)
        rows, tensor_rows = (m * count, config.channels), (8 * count, tensors)
        second = rows if config.fourth_order else (0, config.channels)
        shapes = (
            rows, (count,), rows, rows, second, (count, config.scalar_channels),
            tensor_rows, tensor_rows, (count, tensors), (count,),
        )  # fmt: skip
        return Block(*self.space.arrays(name, shapes))

    def sums(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Return the arrays for the sums over neighbours."""
        config, (q, _, t) = self.engine.config, self.sent[part.layer]
        components, n, count = (config.l_max + 1) ** 2, config.radial_functions, part.last - part.first
        a = self.space.get(("sums", part.number), components, count, n * q.shape[1])
        return a, self.space.get(("passed", part.number), 8, count, n * (t.shape[1] // 8))

    def receive(self, part: Part, kept: Block, scalars: np.ndarray) -> None:
        """Fill what is kept of a block, and its new scalars, from its neighbours."""
        engine, atoms = self.engine, self.atoms
        layer, _, _, first, last = part
        weights, numbers = engine.weights[layer], atoms.numbers[first:last]
        a, p = self.sums(part)
        compiled = engine.kernels[layer] if layer else engine.kernels_of_first(atoms.first)
        compiled.value(first, last, *self.fixed, *self.sent[layer], a, p)
        if layer == 0 and atoms.first.combined is not None:
            numba_mix.mix_elements(a, atoms.kinds[first:last], atoms.first.combined, weights, kept)
        else:
            numba_mix.mix(a, p, numbers, weights, kept)
        self.couple(kept.density, kept.partner, kept.product)
        numba_nodes.update(
            self.scalars[layer][first:last], numbers, atoms.context, atoms.context_rows[first:last],
            weights, kept, scalars,
        )  # fmt: skip

    def push_back(self, part: Part, kept: Block, g_scalars: np.ndarray, g_tensors: np.ndarray) -> None:
        """Take the cotangents of a block's new scalars and tensors back to senders, forces and virial."""
        engine, atoms, edges = self.engine, self.atoms, self.edges
        layer, number, _, first, last = part
        weights, numbers = engine.weights[layer], atoms.numbers[first:last]
        g_density, g_partner, g_product, more_density, more_partner = self.space.arrays(
            ("cotangents", number), (kept.density.shape,) * 5
        )
        numba_nodes.update_back(numbers, weights, kept, g_scalars, g_tensors, g_density, g_partner, g_product)
        self.couple(kept.partner, g_product, more_density)
        self.couple(kept.density, g_product, more_partner)
        a, p = self.sums(part)
        more = (kept, g_density, g_partner, more_density, more_partner)
        if layer == 0 and atoms.first.combined is not None:
            numba_mix.mix_elements_back(atoms.kinds[first:last], atoms.first.combined_back, weights, *more, a)
        else:
            numba_mix.mix_back(numbers, weights, *more, a, p)
        compiled = engine.kernels[layer] if layer else engine.kernels_of_first(atoms.first)
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
