"""Edges of a batch, sorted by centre, and their vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lam import keys


@dataclass(frozen=True)
class Edges:
    """The edges of a batch, sorted by centre.

    Attributes:
        vectors: centre to neighbour, Angstrom, (E, 3).
        centers: (E,).
        neighbors: (E,).
        starts: first edge of each centre, and E, (N + 1,).
    """

    vectors: Tensor
    centers: Tensor
    neighbors: Tensor
    starts: Tensor

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""
        return len(self.starts) - 1


def edge_vectors(graph: dict[str, Tensor]) -> Tensor:
    """Return the vectors ``positions[j] + shift @ cell - positions[i]``, Angstrom, (E, 3).

    In the precision of the positions: differences of single-precision positions in a large cell would
    carry most of the rounding error of the whole model.
    """
    neighbor, center = graph[keys.EDGE_INDEX]
    positions = graph[keys.POSITIONS]
    cells = graph[keys.CELL].to(positions.dtype)
    shifts = graph[keys.EDGE_SHIFT].to(positions.dtype)
    if len(cells) == 1:
        moved = shifts @ cells[0]
    else:
        moved = torch.bmm(shifts[:, None, :], cells[graph[keys.BATCH][center]])[:, 0]
    return positions[neighbor] - positions[center] + moved


def make_edges(graph: dict[str, Tensor], dtype: torch.dtype) -> Edges:
    """Return the edges of a batch, which must be sorted by centre, with vectors in ``dtype``."""
    neighbor, center = graph[keys.EDGE_INDEX]
    counts = torch.bincount(center, minlength=graph[keys.POSITIONS].shape[0])
    starts = torch.nn.functional.pad(torch.cumsum(counts, 0), (1, 0))
    return Edges(edge_vectors(graph).to(dtype), center, neighbor, starts)
