"""Graphs: a structure as tensors with its neighbour list, and their concatenation to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from lam import keys
from lam.data.neighbors import find_pairs, warn_if_overlapping, wrap
from lam.data.structure import Structure

#: Every key of a batch, inputs and labels, in the order of the registry.
BATCH_KEYS = tuple(key for key in keys.KEYS if key not in (keys.ENERGY, keys.ATOM_ENERGIES, keys.FORCES, keys.STRESS))
_STORED = tuple(key for key in BATCH_KEYS if key != keys.BATCH)


class AtomicGraph(Data):
    """One structure as a PyTorch Geometric graph with the keys of `lam.keys`."""

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> int | None:
        return 1 if key == keys.EDGE_INDEX else 0

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> int:
        return int(self.num_nodes) if key == keys.EDGE_INDEX else 0


def build_graph(
    structure: Structure,
    *,
    cutoff: float,
    task: int = 0,
    structure_id: int = 0,
    dtype: torch.dtype = torch.float32,
) -> AtomicGraph:
    """Return the graph of a structure: neighbours within ``cutoff``, labels and their masks.

    Positions are centred, and wrapped if atoms drifted far out of the cell; nothing that a model predicts
    depends on it. A missing label reads zero and is masked.
    Atoms that overlap give a :class:`~lam.errors.LamWarning` that names the structure.

    Args:
        structure: the structure.
        cutoff: Angstrom.
        task: index of the head that labelled or predicts the structure.
        structure_id: row of the structure in its data set.
        dtype: of shifts, charges and of the labels but the energy. Positions, cell and energy are always
            float64: differences of rounded positions would carry most of a model's rounding error.
    """
    positions = wrap(structure.positions, structure.cell, structure.pbc)
    pairs, shift, distances = find_pairs(positions, structure.cell, structure.pbc, cutoff)
    warn_if_overlapping(structure.numbers, pairs, distances, structure.where)
    forces, stress = structure.forces, structure.stress
    count = len(structure)

    def one(value: Any, kind: torch.dtype) -> Tensor:
        return torch.tensor([value], dtype=kind)

    def array(value: np.ndarray) -> Tensor:
        return torch.as_tensor(value, dtype=dtype)

    charge, multiplicity = structure.total_charge, structure.spin_multiplicity
    values = {
        "num_nodes": count,
        keys.POSITIONS: torch.as_tensor(positions - positions.mean(axis=0)),
        keys.ATOMIC_NUMBERS: torch.as_tensor(structure.numbers),
        keys.CELL: torch.as_tensor(structure.cell)[None],
        keys.PBC: torch.as_tensor(structure.pbc)[None],
        keys.TOTAL_CHARGE: one(0.0 if charge is None else charge, dtype),
        keys.SPIN_MULTIPLICITY: one(1.0 if multiplicity is None else multiplicity, dtype),
        keys.TASK: one(task, torch.int64),
        keys.N_ATOMS: one(count, torch.int64),
        keys.EDGE_INDEX: torch.from_numpy(np.ascontiguousarray(pairs[:, ::-1].T)),
        keys.EDGE_SHIFT: array(shift),
        keys.STRUCTURE_ID: one(structure_id, torch.int64),
        keys.LABEL_ENERGY: one(structure.energy or 0.0, torch.float64),
        keys.LABEL_FORCES: torch.zeros(count, 3, dtype=dtype) if forces is None else array(forces),
        keys.LABEL_STRESS: torch.zeros(1, 3, 3, dtype=dtype) if stress is None else array(stress)[None],
        keys.MASK_ENERGY: one(structure.energy is not None, torch.bool),
        keys.MASK_FORCES: one(forces is not None, torch.bool),
        keys.MASK_STRESS: one(stress is not None, torch.bool),
    }
    graph = AtomicGraph()
    graph._store._mapping.update(values)  # assigning one by one takes longer than the neighbour list
    return graph


def collate(graphs: Sequence[AtomicGraph]) -> dict[str, Tensor]:
    """Concatenate graphs to one batch: a flat dictionary with exactly :data:`BATCH_KEYS`.

    Equal to ``Batch.from_data_list`` (tested), but several times faster.
    """
    stores = [graph._store._mapping for graph in graphs]
    batch = {
        key: torch.cat([store[key] for store in stores], dim=1 if key == keys.EDGE_INDEX else 0) for key in _STORED
    }
    n_atoms = batch[keys.N_ATOMS]
    batch[keys.BATCH] = torch.repeat_interleave(n_atoms)
    n_edges = torch.tensor([store[keys.EDGE_INDEX].shape[1] for store in stores])
    first_atom = torch.cumsum(n_atoms, 0) - n_atoms
    batch[keys.EDGE_INDEX] += torch.repeat_interleave(first_atom, n_edges)
    return {key: batch[key] for key in BATCH_KEYS}


def take(batch: dict[str, Tensor], structures: Tensor) -> dict[str, Tensor]:
    """Return a batch of some structures of a batch, in the order given.

    Args:
        batch: as :func:`collate` returns it, on any device.
        structures: which to take, (K,) int64.
    """
    atom_owner = batch[keys.BATCH]
    edge_owner = atom_owner[batch[keys.EDGE_INDEX][1]]
    place = torch.full_like(batch[keys.N_ATOMS], -1)
    place[structures] = torch.arange(len(structures), device=place.device)
    rows = {
        "graph": structures,
        "node": _rows(place[atom_owner]),
        "edge": _rows(place[edge_owner]),
    }
    taken = {
        key: batch[key].index_select(1 if key == keys.EDGE_INDEX else 0, rows[keys.KEYS[key].level])
        for key in BATCH_KEYS
    }
    old_to_new = torch.empty_like(atom_owner)
    old_to_new[rows["node"]] = torch.arange(len(rows["node"]), device=place.device)
    taken[keys.EDGE_INDEX] = old_to_new[taken[keys.EDGE_INDEX]]
    taken[keys.BATCH] = place[taken[keys.BATCH]]
    return taken


def _rows(place: Tensor) -> Tensor:
    """Return where places are not -1, in the order of the places; equal ones in their own order."""
    order = torch.argsort(place, stable=True)
    return order[place[order] >= 0]
