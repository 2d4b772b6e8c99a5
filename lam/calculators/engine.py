"""Inference on CPUs: energies, forces and virials of frozen weights, a block of atoms at a time.

The same numbers as :meth:`lam.model.potential.Potential.forward`, without automatic differentiation. Only what other
atoms need is kept for each atom (its scalars, what it sends, and their gradients); everything else lives in the
scratch arrays of a thread for the few atoms of a block, small enough for the processor's cache, and the backward
pass of a layer forms it again (unless the system is so small that keeping it costs nothing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from lam.calculators.lowering import array, combined_weights, layer_weights, readout_weights
from lam.calculators.passes import evaluate
from lam.calculators.workspace import Workspace
from lam.model.kernels import numba_product
from lam.model.kernels.numba_message import Kernels, kernels

if TYPE_CHECKING:
    from lam.calculators.verlet import Neighbors
    from lam.model.potential import Potential

_CACHE = 1_400_000
"""Bytes of scratch of a block: little more than stays in the second-level cache, as the weights are read for each."""
_KEEP = 192 * 2**20
"""Bytes up to which the intermediate results of all blocks are kept from the forward to the backward pass."""
_SLOTS = (2, 4, 8)
"""Numbers of elements for which the first layer has kernels of its own."""


class FirstLayer(NamedTuple):
    """What the first layer starts from: its senders depend on the elements alone.

    ``combined`` is ``None`` where there are too many elements; then the senders are those of the model.
    """

    senders: np.ndarray
    """(N, Q)."""
    combined: np.ndarray | None
    """(U, L + 1, n Q, C)."""
    combined_back: np.ndarray | None


@dataclass(frozen=True)
class Atoms:
    """What does not change when atoms move: N atoms of U elements in G structures.

    Attributes:
        numbers: atomic numbers, (N,).
        structure: of each atom, (N,).
        tasks: of each atom, (N,).
        radii: covalent, Angstrom, (N,).
        references: reference energy of each atom, eV, (N,).
        context: bias of charge and spin, one row for each structure and element, (G U, S).
        context_rows: the row of each atom, (N,).
        kinds: index of the element, (N,).
        scalars: before the first layer, (N, S).
        first: what the first layer starts from.
        n_structures: G.
    """

    numbers: np.ndarray
    structure: np.ndarray
    tasks: np.ndarray
    radii: np.ndarray
    references: np.ndarray
    context: np.ndarray
    context_rows: np.ndarray
    kinds: np.ndarray
    scalars: np.ndarray
    first: FirstLayer
    n_structures: int


class Engine:
    """Evaluates a potential whose weights do not change.

    Args:
        model: the potential, on a CPU.

    Attributes:
        block_atoms: atoms that are worked on together.
        keep_bytes: how much may be kept of the forward pass; what is not is formed again.
    """

    def __init__(self, model: Potential) -> None:
        config = model.config
        self.model, self.config = model, config
        self.number = np.float64 if model.dtype == torch.float64 else np.float32
        layers = list(model.backbone.layers)
        n_radial = config.radial_functions
        self.weights = [layer_weights(a, b, n_radial) for a, b in zip(layers, [*layers[1:], None], strict=True)]
        self.readout = readout_weights(model.readout, model.energy_scale())
        self.scale = array(model.backbone.radial.scale, model.dtype)
        self.couple = numba_product.couple(config.l_max, self.number is np.float64)
        tensors = config.tensor_channels if config.n_layers > 1 else 0
        self.kernels = [self._kernels(config.sender_channels, tensors if i else 0) for i in range(config.n_layers)]
        self._element = array(model.backbone.element.weight, model.dtype)
        self._senders = array(model.backbone.element.weight @ layers[0].message.sender.weight.T, model.dtype)
        self._radii = array(model.backbone.radii, model.dtype)
        self._references = model.reference_energies().numpy()
        size, components = self.number().itemsize, (config.l_max + 1) ** 2
        per_atom = components * (8 * config.channels + n_radial * config.sender_channels) * size
        self.block_atoms = max(4, min(32, _CACHE // per_atom))
        self.keep_bytes = _KEEP
        self.kept_per_atom = 4 * components * config.channels * size * config.n_layers
        self.workspace = Workspace(self.number)

    def _kernels(self, senders: int, tensors: int) -> Kernels:
        config = self.config
        return kernels(self.number is np.float64, config.l_max, config.radial_functions, senders, tensors)

    @torch.no_grad()
    def atoms(
        self, numbers: np.ndarray, sizes: np.ndarray, tasks: np.ndarray, charges: np.ndarray, multiplicities: np.ndarray
    ) -> Atoms:
        """Return the tables of the atoms of G structures.

        Args:
            numbers: atomic numbers of all atoms, (N,).
            sizes: number of atoms of each structure, (G,).
            tasks: task of each structure, (G,).
            charges: total charges, e, (G,).
            multiplicities: 2S + 1, (G,).
        """
        structure = np.repeat(np.arange(len(sizes)), sizes)
        elements, kinds = np.unique(numbers, return_inverse=True)
        per_atom = tasks[structure]
        context = self.model.backbone.charge_spin(
            torch.from_numpy(charges).to(self.model.dtype),
            torch.from_numpy(multiplicities),
            torch.from_numpy(sizes),
            torch.arange(len(sizes)).repeat_interleave(len(elements)),
            torch.from_numpy(elements).repeat(len(sizes)),
        )
        return Atoms(
            numbers=numbers,
            structure=structure,
            tasks=per_atom,
            radii=self._radii[numbers],
            references=self._references[per_atom, numbers],
            context=context.contiguous().numpy(),
            context_rows=structure * len(elements) + kinds,
            kinds=kinds,
            scalars=self._element[numbers],
            first=self._first(numbers, elements, kinds),
            n_structures=len(sizes),
        )

    def _first(self, numbers: np.ndarray, elements: np.ndarray, kinds: np.ndarray) -> FirstLayer:
        slots = next((size for size in _SLOTS if size >= len(elements)), None)
        if slots is None or slots >= self.config.sender_channels:
            return FirstLayer(self._senders[numbers], None, None)
        senders = np.zeros((len(numbers), slots), self.number)
        senders[np.arange(len(numbers)), kinds] = 1.0
        return FirstLayer(senders, *combined_weights(self.model, elements, slots))

    def kernels_of_first(self, first: FirstLayer) -> Kernels:
        """Return the kernels for the first layer's senders."""
        return self._kernels(first.senders.shape[1], 0)

    def __call__(self, atoms: Atoms, edges: Neighbors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return energies of the atoms (N,), forces (N, 3), and dE/d(strain) of the structures (G, 3, 3), float64."""
        return evaluate(self, atoms, edges)
