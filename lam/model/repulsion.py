"""Screened nuclear repulsion at short range (Ziegler, Biersack and Littmark, 1985)."""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from lam.model.edges import Edges
from lam.model.radial import SMALLEST, envelope

COULOMB = 14.399645478425668
"""e^2 / (4 pi epsilon_0), eV Angstrom (CODATA 2018)."""
REACH = 0.7
"""Where the repulsion ends, in units of the sum of the covalent radii."""
BOHR = 0.529177210903
"""Bohr radius, Angstrom (CODATA 2018)."""
_COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
_EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)


def pair_radii(max_atomic_number: int) -> Tensor:
    """Return covalent radii by atomic number, Angstrom (Cordero 2008, as in ASE), (Z_max + 1,)."""
    radii = torch.full((max_atomic_number + 1,), 1.5)  # where nothing is tabulated
    known = torch.tensor(covalent_radii[: max_atomic_number + 1], dtype=torch.float32)
    known = torch.where(known > 0.25, known, radii[: len(known)])
    radii[: len(known)] = known
    return radii


class Repulsion(nn.Module):
    """ZBL energy of every pair, faded out at ``REACH`` times the sum of the covalent radii.

    So it ends inside the shortest bonds (V=O is at 0.73 of the sum, CO at 0.82): a repulsion that acts on
    bonds has to be cancelled by the network, to the last meV.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, numbers: Tensor, radii: Tensor, edges: Edges) -> Tensor:
        """Return the repulsion of each atom, half of each of its pairs, eV, (N,).

        Args:
            numbers: atomic numbers, (N,).
            radii: covalent radii, Angstrom, (N,).
            edges: the edges.
        """
        # Most pairs are out of reach: nothing of them is computed but their distance.
        with torch.no_grad():
            reach = (REACH * (radii[edges.centers] + radii[edges.neighbors])).clamp(max=self.cutoff)
            near = torch.nonzero(edges.vectors.square().sum(-1) < reach.square()).squeeze(1)
        energy = edges.vectors.new_zeros(edges.n_atoms)
        if not len(near):
            return energy
        distances, reach = torch.sqrt(edges.vectors[near].square().sum(-1) + SMALLEST**2), reach[near]
        charge = numbers.to(distances.dtype)
        z_i, z_j = charge[edges.centers[near]], charge[edges.neighbors[near]]
        x = distances * (z_i**0.23 + z_j**0.23) / (0.8854 * BOHR)
        screening = sum(c * torch.exp(-e * x) for c, e in zip(_COEFFICIENTS, _EXPONENTS, strict=True))
        pairs = 0.5 * COULOMB * z_i * z_j / distances * screening * envelope(distances / reach)
        return energy.index_add(0, edges.centers[near], pairs)
