"""What to evaluate on: manifests, shards and files become named sets of structures, read lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lam.data.manifest import DatasetSpec, load_manifest
from lam.data.readers import read_structures, stem
from lam.data.shard_folder import Shards
from lam.data.shards import HAS_ENERGY, Shard, is_shard, open_shard
from lam.data.splits import SPLITS
from lam.data.stream_splits import split_shard
from lam.data.structure import Structure
from lam.errors import LamError, unknown_name

ALL: Final = "all"
_MANIFEST_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True)
class LabelledCompositions:
    """Compositions of structures with their energies: what a composition-only model is fitted to."""

    compositions: np.ndarray
    """Atoms of each element, (S, 119)."""
    energies: np.ndarray
    """eV, (S,)."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """A named set of labelled structures."""

    name: str
    """Name of the data set; by default the head of the same name predicts it."""
    structures: Sequence[Structure]
    """The structures; may read them lazily."""
    split: str = ALL
    """Which part of the data set these are."""
    source: str = ""
    """File that it was read from."""
    training: Callable[[], LabelledCompositions] | None = None
    """Gives the energies of the training split, if there is one."""


class ShardRows(Sequence[Structure]):
    """Some rows of a shard as a sequence that reads each structure when it is asked for."""

    def __init__(self, shard: Shard | Shards, rows: np.ndarray) -> None:
        self.shard = shard
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Structure:
        return self.shard[int(self.rows[place])]

    def __iter__(self) -> Iterator[Structure]:
        return (self.shard[int(row)] for row in self.rows)


def open_data(path: str | Path, *, split: str | None = None) -> list[EvaluationSet]:
    """Open a manifest (``.yaml`` or a folder with ``manifest.yaml``), a shard (or a folder
    of them that is one data set) or any file that ASE reads.

    Args:
        path: the file or folder.
        split: the part of a manifest's data sets; ``"test"`` by default. Shards and other files have no
            splits and are taken whole.

    Raises:
        LamError: if it is missing, damaged or empty, or the split is unknown or cannot be had.
    """
    path = Path(path)
    if split is not None and split not in (*SPLITS, ALL):
        raise unknown_name("split", split, (*SPLITS, ALL))
    if (path.is_dir() and not is_shard(path)) or path.suffix.lower() in _MANIFEST_SUFFIXES:
        sets = [_from_spec(spec, split or "test") for spec in load_manifest(path).datasets]
        filled = [each for each in sets if len(each.structures)]
        if not filled:
            raise LamError(f"No data set of '{path}' has structures in its {split or 'test'} split.")
        return filled
    if split not in (None, ALL):
        raise LamError(f"'{path}' has no splits; name a manifest to evaluate on its {split} split.")
    if is_shard(path):
        shard = open_shard(path)
        return [EvaluationSet(name=path.stem, structures=ShardRows(shard, np.arange(len(shard))), source=str(path))]
    return [EvaluationSet(name=stem(path), structures=list(read_structures(path)), source=str(path))]


def _from_spec(spec: DatasetSpec, split: str) -> EvaluationSet:
    shard = open_shard(spec.path)
    names = split_shard(shard, spec.split)
    rows = np.arange(len(shard)) if split == ALL else names.rows(split)
    training = names.rows("train")
    return EvaluationSet(
        name=spec.name,
        structures=ShardRows(shard, rows),
        split=split if names.mode == "group" or split == ALL else f"{split} (block)",
        source=str(spec.path),
        training=lambda: _labelled_compositions(shard, training),
    )


def _labelled_compositions(shard: Shard | Shards, rows: np.ndarray) -> LabelledCompositions:
    rows = rows[(shard.masks[rows] & HAS_ENERGY) > 0]
    return LabelledCompositions(shard.compositions()[rows].astype(np.float64), shard.energies[rows])
