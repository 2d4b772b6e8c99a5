"""Neighbour lists, from vesin: right for small and skewed cells and for 0 to 3 periodic directions."""

from __future__ import annotations

import ctypes
import sys
import threading
import warnings
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from lam.errors import LamWarning


def _vesin_without_torch() -> Any:
    """Import vesin; if nobody has loaded PyTorch, in a copy that does not load it either.

    vesin loads PyTorch where it is installed, to take tensors, too. Arrays need none, and commands that only look at
    data would start 1.5 s later and hold 200 MB more in each process. The copy is ours: whoever imports vesin later
    gets it whole.
    """
    if "torch" in sys.modules or "vesin" in sys.modules or threading.active_count() > 1:
        import vesin

        return vesin
    sys.modules["torch"] = None  # type: ignore[assignment]  # its import fails, and vesin goes on without
    try:
        import vesin
    finally:
        del sys.modules["torch"]
        for name in [name for name in sys.modules if name.partition(".")[0] == "vesin"]:
            del sys.modules[name]
    return vesin


vesin = _vesin_without_torch()
OVERLAP = 0.3
"""Atoms closer than this times the sum of their covalent radii cannot be meant."""
_LARGEST_OVERLAP = OVERLAP * 2 * float(covalent_radii.max())
_KEPT_POINTER_TYPES = 256


def neighbor_list(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return all directed pairs closer than ``cutoff``, an atom with its own images included.

    Args:
        positions: (N, 3) float64, Angstrom; atoms may lie outside of the cell.
        cell: (3, 3) float64, rows are lattice vectors, Angstrom.
        pbc: (3,) bool.
        cutoff: Angstrom.

    Returns:
        ``edge_index`` (2, E) int64, row 0 the neighbour ``j`` and row 1 the centre ``i``, sorted by
        centre; ``shift`` (E, 3) float64, such that the neighbour sits at ``positions[j] + shift @ cell``.
    """
    pairs, shift, _ = find_pairs(positions, cell, pbc, cutoff)
    return pairs[:, ::-1].T, shift.astype(np.float64)


def find_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same pairs as vesin does: (E, 2) int64 centre, neighbour; (E, 3) int32 shift; (E,) distance."""
    pbc = np.asarray(pbc, dtype=bool)
    # One thread: several data workers run at the same time, and structures are small.
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    complete = complete_cell(np.asarray(cell, dtype=np.float64), pbc)
    close = close_gaps(np.asarray(positions, dtype=np.float64), complete, pbc, cutoff)
    pairs, shift, distances = finder.compute(np.ascontiguousarray(close), complete, pbc, "PSd")
    _forget_pointer_types()
    return pairs.astype(np.int64), shift, distances


def close_gaps(positions: np.ndarray, complete: np.ndarray, pbc: np.ndarray, cutoff: float) -> np.ndarray:
    """Return positions of slabs and chains in which nothing is far away; which pairs there are stays the same.

    vesin divides the directions that are not periodic into bins of their unit vectors: an atom 10^5 Angstrom above
    a slab takes minutes, one at 10^6 ends the process. So groups of atoms that gaps wider than the cutoff separate
    move together until 1.5 cutoffs lie between them. Molecules and crystals, which vesin bins otherwise, stay.

    Args:
        positions: (N, 3) float64, Angstrom.
        complete: the cell as :func:`complete_cell` returns it.
        pbc: (3,) bool.
        cutoff: that of the search, Angstrom.
    """
    if pbc.all() or not pbc.any() or not len(positions):
        return positions
    for normal in complete[~pbc]:
        along = positions @ normal
        order = np.argsort(along)
        surplus = np.maximum(np.diff(along[order]) - 1.5 * cutoff, 0.0)
        if surplus.any():
            excess = np.zeros_like(along)
            excess[order[1:]] = np.cumsum(surplus)
            positions = positions - excess[:, None] * normal
    return positions


def _forget_pointer_types() -> None:
    """Free the types that ctypes made for arrays of one length each.

    vesin turns its results into arrays through ctypes, which (before Python 3.14) keeps a new pair of types
    for ever for every number of edges that occurs: some 10 kB each, hundreds of MB in a long training.
    """
    cache = getattr(ctypes, "_pointer_type_cache", None)
    if isinstance(cache, dict) and len(cache) > _KEPT_POINTER_TYPES:
        for kind in [kind for kind in cache if isinstance(kind, type) and issubclass(kind, ctypes.Array)]:
            del cache[kind]


def warn_if_overlapping(numbers: np.ndarray, pairs: np.ndarray, distances: np.ndarray, where: str) -> None:
    """Give a :class:`~lam.errors.LamWarning` that names the structure if two of its atoms overlap.

    Args:
        numbers: (N,) atomic numbers.
        pairs: (E, 2) its pairs of atoms.
        distances: (E,) their distances, Angstrom.
        where: name of the structure.
    """
    close = np.flatnonzero(distances < _LARGEST_OVERLAP)
    if not len(close):
        return
    elements = numbers[pairs[close]]
    shares = distances[close] / covalent_radii[elements].sum(axis=1)
    worst = int(shares.argmin())
    if shares[worst] < OVERLAP:
        first, second = (chemical_symbols[z] for z in elements[worst])
        warnings.warn(
            f"{where}: {first} and {second} atoms overlap ({distances[close][worst]:.2f} Angstrom apart); "
            "its energy and forces mean nothing. Check the positions.",
            LamWarning,
            stacklevel=3,
        )


def complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Return an invertible cell: directions that are not periodic get a unit vector normal to the others."""
    if pbc.all():
        return cell
    if not pbc.any():
        return np.eye(3)
    rows = cell[pbc]
    # The last right singular vectors span what the periodic vectors leave free.
    normals = np.linalg.svd(rows)[2][len(rows) :]
    complete = cell.copy()
    complete[~pbc] = normals
    return complete


def wrap(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Return positions moved by whole lattice vectors to the cell or next to it, for single precision.

    Atoms that drifted less than one cell away stay; along directions that are not periodic none moves.
    """
    if not pbc.any():
        return positions
    fractional = np.linalg.solve(complete_cell(cell, pbc).T, positions.T).T
    whole = np.floor(fractional) * pbc
    if np.abs(whole).max() <= 1:
        return positions
    return positions - whole @ cell
