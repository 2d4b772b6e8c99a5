"""The data of a training: several shards behind one index, each with its head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from lam.data.graph import AtomicGraph, build_graph
from lam.data.shards import open_shard
from lam.data.splits import SPLITS
from lam.data.stream_splits import split_shard
from lam.data.structure import Structure
from lam.errors import unknown_name

if TYPE_CHECKING:
    from lam.data.manifest import Manifest


class MultiTaskDataset(Dataset):
    """All structures of one split of a manifest's data sets; item ``i`` is the graph of structure ``i``.

    Structures are counted through data set by data set; :meth:`locate` goes back to data set and row.
    Safe in data-loader workers, forked or spawned.

    Args:
        manifest: the data sets.
        split: "train", "val", "test", or "all".
        cutoff: of the graphs, Angstrom.
        dtype: of the graphs.
        heads: names of the model's heads in order; a data set's task is the place of its name. By default the
            manifest's own order.

    Raises:
        LamError: for an unknown split or head, or a shard that cannot be read.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        cutoff: float,
        dtype: torch.dtype = torch.float32,
        heads: Sequence[str] | None = None,
    ) -> None:
        if split not in (*SPLITS, "all"):
            raise unknown_name("split", split, (*SPLITS, "all"))
        heads = list(heads) if heads is not None else manifest.names
        for name in manifest.names:
            if name not in heads:
                raise unknown_name("head", name, heads)
        self.manifest = manifest
        self.split = split
        self.cutoff = cutoff
        self.dtype = dtype
        self.names = manifest.names
        self.tasks = [heads.index(name) for name in self.names]
        self.weights = np.array([spec.weight for spec in manifest.datasets])
        self.shards = [open_shard(spec.path) for spec in manifest.datasets]
        self.splits = [
            split_shard(shard, spec.split) for shard, spec in zip(self.shards, manifest.datasets, strict=True)
        ]
        self.rows: list[np.ndarray] = [
            np.arange(len(shard)) if split == "all" else result.rows(split)
            for shard, result in zip(self.shards, self.splits, strict=True)
        ]
        pairs = list(zip(self.shards, self.rows, strict=True))
        self.sizes = np.array([len(rows) for rows in self.rows])
        self.first = np.concatenate([[0], np.cumsum(self.sizes)])
        self.n_atoms = np.concatenate([shard.n_atoms[rows] for shard, rows in pairs])
        self.n_edges = np.concatenate([shard.estimate_edges(cutoff)[rows] for shard, rows in pairs])

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, item: int | tuple[int, int]) -> AtomicGraph:
        """Return a graph, by place in this split or as ``(data set, row of its shard)``."""
        dataset, row = item if isinstance(item, tuple) else self.locate(item)
        return build_graph(
            self.shards[dataset][row],
            cutoff=self.cutoff,
            task=self.tasks[dataset],
            structure_id=row,
            dtype=self.dtype,
        )

    def placeholder(self, item: int) -> AtomicGraph:
        """Return an atom without labels, in place of a structure that cannot be read: nothing is learned from it."""
        dataset, row = self.locate(item)
        atom = Structure(
            numbers=np.ones(1, dtype=np.int64),
            positions=np.zeros((1, 3)),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
        )
        return build_graph(atom, cutoff=self.cutoff, task=self.tasks[dataset], structure_id=row, dtype=self.dtype)

    def locate(self, item: int) -> tuple[int, int]:
        """Return ``(data set, row of its shard)`` of an item."""
        if not 0 <= item < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        dataset = int(np.searchsorted(self.first, item, side="right")) - 1
        return dataset, int(self.rows[dataset][item - self.first[dataset]])

    def structure(self, item: int) -> Structure:
        """Return the structure of an item, with its labels as stored."""
        dataset, row = self.locate(item)
        return self.shards[dataset][row]

    def name_of(self, task: int, structure_id: int) -> str:
        """Return the name of a structure of a batch for messages: ``"head: file#frame (row 5)"``."""
        dataset = self.tasks.index(int(task))
        source = self.shards[dataset].source_of(int(structure_id))
        return f"{self.names[dataset]}: {source} (row {int(structure_id)})"

    def items_of(self, dataset: int) -> np.ndarray:
        """Return the items of one data set, (n,) int64."""
        return np.arange(self.first[dataset], self.first[dataset + 1])


def worker_init(_: int, *, threads: int = 1) -> None:
    """Set up a data-loader worker: one thread, since several workers run at once."""
    torch.set_num_threads(threads)


one_thread = partial(worker_init, threads=1)
