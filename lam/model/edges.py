"""Edges of a batch in the layout of the backbone: padded blocks, one row of neighbours per centre.

A sum over the neighbours of every atom is the hot path. Sorting edges by centre and padding each
centre's edges to whole blocks turns it into batched matrix products, without storing anything that
has all channels for every edge and without atomics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lam import keys

_BLOCK_SIZES = (4, 8, 16, 24, 32, 48, 64, 96, 128)
_ROW_COST = 16  # writing one row's sum costs about as much as this many edges


@dataclass(frozen=True)
class EdgeBlocks:
    """Edges padded to ``R`` rows of ``B`` slots (``S = R * B``); a row belongs to one centre.

    Attributes:
        vectors: centre to neighbour, Angstrom, (S, 3). Padding points to the cutoff, where every
            radial function and its derivatives vanish.
        centers: centre of each slot, (S,).
        neighbors: neighbour of each slot, (S,); the centre itself for padding.
        rows: centre of each row, (R,).
        block: B.
        n_atoms: N.
    """

    vectors: Tensor
    centers: Tensor
    neighbors: Tensor
    rows: Tensor
    block: int
    n_atoms: int

    def sum_over_neighbors(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``sum_j left_ij (outer) right_ij`` for every centre i.

        Args:
            left: (S, A).
            right: (S, B).

        Returns:
            (N, A, B).
        """
        left = left.view(-1, self.block, left.shape[-1])
        right = right.view(-1, self.block, right.shape[-1])
        partial = torch.bmm(left.transpose(1, 2), right)
        if len(self.rows) == self.n_atoms:  # one row for every atom: the row is the sum
            return partial
        return partial.new_zeros(self.n_atoms, *partial.shape[1:]).index_add(0, self.rows, partial)


def edge_vectors(graph: dict[str, Tensor]) -> Tensor:
    """Return the vectors ``positions[j] + shift @ cell - positions[i]``, Angstrom, (E, 3).

    In the precision of the positions: differences of single-precision positions in a large cell would
    carry most of the rounding error of the whole model.
    """
    neighbor, center = graph[keys.EDGE_INDEX]
    positions = graph[keys.POSITIONS]
    cells = graph[keys.CELL].to(positions.dtype)[graph[keys.BATCH][center]]
    shifts = torch.bmm(graph[keys.EDGE_SHIFT].to(positions.dtype)[:, None, :], cells)[:, 0]
    return positions[neighbor] - positions[center] + shifts


def block_edges(graph: dict[str, Tensor], cutoff: float, dtype: torch.dtype) -> EdgeBlocks:
    """Pad the edges of a batch, which must be sorted by centre, to blocks, with vectors in ``dtype``.

    Edges longer than the cutoff (of a list with a skin, say) are harmless.
    """
    neighbor, center = graph[keys.EDGE_INDEX]
    n_atoms = graph[keys.POSITIONS].shape[0]
    counts = torch.bincount(center, minlength=n_atoms)
    block = _choose_block(counts)
    rows_per_atom = torch.clamp((counts + block - 1) // block, min=1)
    atoms = torch.arange(n_atoms, device=center.device)
    rows = torch.repeat_interleave(atoms, rows_per_atom)
    first_slot = (torch.cumsum(rows_per_atom, 0) - rows_per_atom) * block
    first_edge = torch.cumsum(counts, 0) - counts
    slot = torch.arange(len(center), device=center.device) + (first_slot - first_edge)[center]
    centers = torch.repeat_interleave(rows, block)
    vectors = edge_vectors(graph).to(dtype)
    padding = torch.zeros(len(centers), 3, dtype=vectors.dtype, device=vectors.device)
    padding[:, 0] = cutoff
    return EdgeBlocks(
        vectors=padding.index_copy(0, slot, vectors),
        centers=centers,
        neighbors=centers.index_copy(0, slot, neighbor),
        rows=rows,
        block=block,
        n_atoms=n_atoms,
    )


def _choose_block(counts: Tensor) -> int:
    """Pick the block size that wastes least on padding and on rows."""
    sizes = torch.tensor(_BLOCK_SIZES, device=counts.device)
    rows = torch.clamp((counts[:, None] + sizes - 1) // sizes, min=1).sum(0)
    return _BLOCK_SIZES[int(torch.argmin(rows * (sizes + _ROW_COST)))]
