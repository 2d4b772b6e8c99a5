"""The potential: backbone, heads, reference energies and repulsion; forces and stress as gradients.

The same module trains, predicts and is exported. It takes a flat dictionary of tensors (see
:mod:`lam.keys`) and returns another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from lam import keys
from lam.errors import LamError, unknown_name
from lam.model import fused
from lam.model.backbone import Backbone
from lam.model.config import ModelConfig
from lam.model.constants import Table
from lam.model.edges import Edges, make_edges
from lam.model.heads import HeadInfo
from lam.model.kernels import gradients_of
from lam.model.readout import Readout
from lam.model.repulsion import Repulsion


class Potential(nn.Module):
    """Energies of structures for one of several heads, with forces and stress.

    ``E = sum_i [ s_task * readout_task(h_i) + e_task(z_i) ] + E_ZBL``

    Args:
        config: the architecture.
        heads: one description per head; their order is the task index.
        default_heads: heads to try, in this order, where the user names none; all by default.
    """

    def __init__(
        self, config: ModelConfig, heads: Sequence[HeadInfo], default_heads: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if not heads:
            raise LamError("A model needs at least one head.")
        self.config = config
        self.heads = list(heads)
        self.default_heads = list(default_heads or self.head_names)
        self.backbone = Backbone(config)
        self.readout = Readout(len(heads), config.scalar_channels, config.readout_channels)
        self.repulsion = Repulsion(config.cutoff) if config.zbl else None
        self.reference_energies = Table(self._reference_table())
        self.energy_scale = Table(torch.tensor([head.energy_scale for head in heads], dtype=torch.float64))

    # -- what the model is ---------------------------------------------------------------------

    @property
    def head_names(self) -> list[str]:
        """Names of the heads, in the order of the task index."""
        return [head.name for head in self.heads]

    @property
    def cutoff(self) -> float:
        """Radius of a message, Angstrom."""
        return self.config.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights and of the arithmetic."""
        return self.readout.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.readout.weight.device

    def head_index(self, name: str) -> int:
        """Return the task index of a head.

        Raises:
            LamError: if there is no such head; lists those there are.
        """
        if name not in self.head_names:
            raise unknown_name("head", name, self.head_names)
        return self.head_names.index(name)

    def elements(self, head: str | None = None) -> set[int]:
        """Return the atomic numbers that a head (by default: any head) was trained on."""
        heads = self.heads if head is None else [self.heads[self.head_index(head)]]
        return {atomic_numbers[symbol] for info in heads for symbol in info.elements}

    def choose_head(self, numbers: Iterable[int], pbc: Iterable[bool]) -> int:
        """Return the default head for a structure: the first that covers its elements and periodicity.

        Heads trained on structures of the same kind (periodic or not) come first, in the order of
        ``default_heads`` and then of all heads.

        Raises:
            LamError: if no head covers all elements; names the missing ones and the closest head.
        """
        wanted, periodic = {int(z) for z in numbers}, any(pbc)
        order = dict.fromkeys([*self.default_heads, *self.head_names])
        covering = [name for name in order if wanted <= self.elements(name)]
        for name in covering:
            info = self.heads[self.head_index(name)]
            if info.periodic if periodic else info.molecular:
                return self.head_index(name)
        if covering:
            return self.head_index(covering[0])
        raise self._not_covered(wanted)

    def _not_covered(self, wanted: set[int]) -> LamError:
        nowhere = sorted(wanted - self.elements())
        if nowhere:
            symbols = ", ".join(chemical_symbols[z] for z in nowhere)
            return LamError(f"No head of this model covers {symbols}: fine-tune it on data with these elements.")
        best = max(self.head_names, key=lambda name: len(wanted & self.elements(name)))
        missing = ", ".join(chemical_symbols[z] for z in sorted(wanted - self.elements(best)))
        return LamError(
            f"No single head covers all elements of the structure; '{best}' comes closest, without {missing}. "
            "Name a head to use one all the same, or fine-tune on data with all of them."
        )

    # -- prediction ----------------------------------------------------------------------------

    def forward(
        self,
        graph: dict[str, Tensor],
        *,
        forces: bool = True,
        stress: bool = True,
        create_graph: bool = False,
    ) -> dict[str, Tensor]:
        """Predict a batch.

        Args:
            graph: the input keys of :mod:`lam.keys`, edges sorted by centre. Floating tensors may
                have any precision; edge vectors are formed in the positions' and then cast.
            forces: predict forces.
            stress: predict stress.
            create_graph: keep the graph, to train on forces or to differentiate further.

        Returns:
            ``energy`` (G,) and ``atom_energies`` (N,), eV, float64; ``forces`` (N, 3), eV/Angstrom;
            ``stress`` (G, 3, 3), eV/Angstrom^3 (zeros for structures that are not 3D-periodic).
        """
        derivatives = forces or stress
        with torch.set_grad_enabled(derivatives or torch.is_grad_enabled()):
            if derivatives and create_graph and fused.serves(self.backbone, graph):
                atom_energies, pulls, virials = self._fused_interaction(graph)
            else:
                edges = make_edges(graph, self.dtype)
                if derivatives and not edges.vectors.requires_grad:
                    edges.vectors.requires_grad_()
                atom_energies = self._interaction(graph, edges)
                if derivatives:
                    with gradients_of(vectors=True, fixed_senders=False):
                        pull = torch.autograd.grad(atom_energies.sum(), edges.vectors, create_graph=create_graph)[0]
                    pulls = _forces(pull, edges) if forces else None
                    virials = _virials(pull, edges, graph) if stress else None
            output = self._total(graph, atom_energies)
            if forces:
                output[keys.FORCES] = pulls
            if stress:
                output[keys.STRESS] = _stress(virials, graph)
        if not create_graph and derivatives:
            output = {key: value.detach() for key, value in output.items()}
        return output

    def _interaction(self, graph: dict[str, Tensor], edges: Edges) -> Tensor:
        """Return the energy of each atom without references, eV, (N,), in the model's dtype."""
        energies = self._read_out(graph, self.backbone(graph, edges))
        if self.repulsion is not None:
            numbers = graph[keys.ATOMIC_NUMBERS]
            energies = energies + self.repulsion(numbers, self.backbone.radii[numbers], edges)
        return energies

    def _read_out(self, graph: dict[str, Tensor], scalars: Tensor) -> Tensor:
        """Return what the network says of the energy of each atom, eV, (N,), from its scalars."""
        task = graph[keys.TASK][graph[keys.BATCH]]
        return self.readout(scalars, task) * self.energy_scale(scalars.dtype)[task]

    def _fused_interaction(self, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what :meth:`_interaction` does, forces (N, 3) and virials (G, 3, 3), to train all of them."""
        radii = self.backbone.radii[graph[keys.ATOMIC_NUMBERS]]
        geometry = fused.Geometry(graph, self.dtype, radii, self.cutoff)
        backbone = fused.FusedBackbone(self.backbone, graph, geometry)
        scalars = backbone.scalars if backbone.scalars.requires_grad else backbone.scalars.requires_grad_()
        energies = self._read_out(graph, scalars)
        pull = backbone.pull(torch.autograd.grad(energies.sum(), scalars, create_graph=True)[0])
        forces, virials = geometry.collect(pull)
        if self.repulsion is not None:  # it has nothing to learn
            more = geometry.repulsion()
            energies, forces, virials = energies + more[0], forces + more[1], virials + more[2]
        return energies, forces, virials

    def _total(self, graph: dict[str, Tensor], atom_energies: Tensor) -> dict[str, Tensor]:
        # Sums in double precision: references are thousands of eV, differences of interest are meV.
        numbers, batch = graph[keys.ATOMIC_NUMBERS], graph[keys.BATCH]
        references = self.reference_energies()[graph[keys.TASK][batch], numbers]
        atom_energies = atom_energies.to(torch.float64) + references
        energy = atom_energies.new_zeros(len(graph[keys.N_ATOMS])).index_add(0, batch, atom_energies)
        return {keys.ENERGY: energy, keys.ATOM_ENERGIES: atom_energies}

    # -- heads ---------------------------------------------------------------------------------

    def _reference_table(self) -> Tensor:
        table = torch.zeros(len(self.heads), self.config.max_atomic_number + 1, dtype=torch.float64)
        for row, head in enumerate(self.heads):
            for symbol, energy in head.reference_energies.items():
                table[row, atomic_numbers[symbol]] = energy
        return table


def _forces(pull: Tensor, edges: Edges) -> Tensor:
    """Turn dE/d(edge vector), (E, 3), into forces, (N, 3)."""
    zeros = pull.new_zeros(edges.n_atoms, 3)
    return zeros.index_add(0, edges.centers, pull).index_add(0, edges.neighbors, -pull)


def _virials(pull: Tensor, edges: Edges, graph: dict[str, Tensor]) -> Tensor:
    """Turn dE/d(edge vector), (E, 3), into dE/d(strain), (G, 3, 3)."""
    n_structures = len(graph[keys.CELL])
    if n_structures == 1:
        virial = (edges.vectors.T @ pull)[None]
    else:
        outer = edges.vectors[:, :, None] * pull[:, None, :]
        virial = pull.new_zeros(n_structures, 3, 3).index_add(0, graph[keys.BATCH][edges.centers], outer)
    return 0.5 * (virial + virial.transpose(1, 2))


def _stress(virials: Tensor, graph: dict[str, Tensor]) -> Tensor:
    """Turn dE/d(strain), (G, 3, 3), into the stress; zero unless a structure is periodic in three directions."""
    periodic = graph[keys.PBC].all(dim=1)
    volume = torch.linalg.det(graph[keys.CELL].to(virials.dtype)).abs()
    volume = torch.where(periodic, volume, torch.ones_like(volume))
    return torch.where(periodic[:, None, None], virials / volume[:, None, None], torch.zeros_like(virials))
