"""The labels of a fine-tune: read, checked, divided into training and test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import DatasetSpec, Manifest
from lam.data.readers import read_atoms, stem
from lam.data.shards import HAS_ENERGY, HAS_FORCES, HAS_STRESS, ShardWriter
from lam.data.splits import SplitSpec
from lam.data.structure import Structure
from lam.errors import LamError
from lam.train.heads import HeadStatistics, head_statistics

if TYPE_CHECKING:
    from ase import Atoms

    from lam.train.config_finetune import FinetuneConfig


@dataclass(frozen=True)
class Labels:
    """The data of a fine-tune."""

    train: MultiTaskDataset
    """Structures to train on."""
    test: MultiTaskDataset
    """Structures to measure on."""
    measured_on: str
    """What ``test`` is: "test data", "held-out labels" or, of very few labels, "training labels"."""
    statistics: HeadStatistics
    """What the training structures say about the new head."""

    @property
    def elements(self) -> set[int]:
        """Atomic numbers in the training structures."""
        return {int(z) for z in np.flatnonzero(self.statistics.fit.counts)}


def read_labels(
    files: Sequence[Path],
    test_files: Sequence[Path],
    name: str,
    heads: Sequence[str],
    cutoff: float,
    options: FinetuneConfig,
    work: Path,
) -> Labels:
    """Read the labelled files.

    Args:
        files: labels to train on; a part is held out if there are no ``test_files``.
        test_files: labels to measure on.
        name: of the new head.
        heads: all heads of the model to train, in order, the new one among them.
        cutoff: of the model, Angstrom.
        options: the settings.
        work: folder for temporary files.

    Raises:
        LamError: if a file cannot be used, or nothing in it has a label.
    """
    hold_out = 0.0 if test_files else options.hold_out
    spec = _shard(work / "train.h5", files, name, SplitSpec(test=hold_out, val=0.0, seed=options.seed))
    manifest = Manifest(datasets=[spec])
    train = MultiTaskDataset(manifest, "train", cutoff, heads=heads)
    statistics = head_statistics(train, 0)
    if test_files:
        test_spec = _shard(work / "test.h5", test_files, name, SplitSpec(test=0.0, val=0.0))
        test = MultiTaskDataset(Manifest(datasets=[test_spec]), "all", cutoff, heads=heads)
        _require_usable_test(test, statistics, test_spec.source)
        return Labels(train, test, "test data", statistics)
    test = MultiTaskDataset(manifest, "test", cutoff, heads=heads)
    if _has_labels(test):
        return Labels(train, test, "held-out labels", statistics)
    return Labels(train, train, "training labels", statistics)


def head_name(new_head: str | None, files: Sequence[Path], taken: Sequence[str]) -> str:
    """Return the name of the new head: as given, or made from the first file's.

    Raises:
        LamError: if it is taken or cannot be a name.
    """
    name = new_head if new_head is not None else re.sub(r"[\s/.]+", "-", stem(files[0])).strip("-")
    if not re.fullmatch(r"[^\s/.]+", name):
        raise LamError(f"'{name}' cannot be the name of a head: no blanks, dots or slashes. Name it with --new-head.")
    if name in taken:
        raise LamError(f"The model has a head '{name}' already; name the new one with --new-head.")
    return name


def _shard(path: Path, files: Sequence[Path], name: str, split: SplitSpec) -> DatasetSpec:
    """Pass labelled files through the one validated door into a temporary shard."""
    count = 0
    with ShardWriter(path) as writer:
        for file in files:
            for number, atoms in read_atoms(file):
                # Few labels are independent frames more often than trajectories: without a group stated
                # each is one of its own. (By default a reader would group them by formula.)
                group = None if _states_group(atoms) else f"frame {count}"
                writer.append(Structure.from_atoms(atoms, source=f"{file.name}#{number}", group=group))
                count += 1
    return DatasetSpec(name=name, path=path, source=", ".join(file.name for file in files), split=split)


def _states_group(atoms: Atoms) -> bool:
    return any(str(atoms.info.get(key) or "") for key in ("group", "config_type"))


def _has_labels(dataset: MultiTaskDataset) -> bool:
    shard, rows = dataset.shards[0], dataset.rows[0]
    return bool((shard.masks[rows] & (HAS_ENERGY | HAS_FORCES | HAS_STRESS)).any())


def _require_usable_test(test: MultiTaskDataset, statistics: HeadStatistics, source: str) -> None:
    if not _has_labels(test):
        raise LamError(f"The test data ({source}) have no labels to measure on.")
    present = set(np.flatnonzero(test.shards[0].compositions().any(axis=0)).tolist())
    missing = present - set(np.flatnonzero(statistics.fit.counts).tolist())
    if missing:
        symbols = ", ".join(chemical_symbols[z] for z in sorted(missing))
        raise LamError(
            f"The test data ({source}) contain {symbols}, which no training label has: the new head has no "
            "reference energy for it. Add such structures to the labels, or take them out of the test."
        )
