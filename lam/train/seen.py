"""How often a training has seen each structure, from its configuration and its last resumable state."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lam.atomic_write import atomic_file
from lam.config.load import read_yaml
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import load_manifest
from lam.errors import LamError
from lam.train.config import PretrainConfig
from lam.train.data import DataModule
from lam.train.resume import state_file
from lam.train.state_io import SafetensorsCheckpointIO


@dataclass(frozen=True)
class Passes:
    """How often the structures of one data set were drawn."""

    name: str
    """Of the data set."""
    structures: int
    """Training structures there are."""
    least: int
    mean: float
    most: int


@dataclass(frozen=True)
class Seen:
    """What a training has drawn up to its last state."""

    step: int
    """Optimiser steps done."""
    position: int
    """Structures drawn in all."""
    dataset: MultiTaskDataset
    counts: np.ndarray
    """How often each item of ``dataset`` was drawn, (S,) int64; also for steps that were skipped as faulty."""

    def passes(self) -> list[Passes]:
        """Return a summary of each data set, in the order of the manifest."""
        rows = []
        for index, name in enumerate(self.dataset.names):
            counts = self.counts[self.dataset.first[index] : self.dataset.first[index + 1]]
            if len(counts):
                rows.append(Passes(name, len(counts), int(counts.min()), float(counts.mean()), int(counts.max())))
            else:
                rows.append(Passes(name, 0, 0, 0.0, 0))
        return rows

    def write_csv(self, path: str | Path) -> None:
        """Write a row for each training structure: data set, name in its source, row of its shard, times seen."""
        with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["data_set", "source", "row", "seen"])
            for index, name in enumerate(self.dataset.names):
                rows = self.dataset.rows[index]
                place = int(self.dataset.first[index])
                for piece, own in self.dataset.shards[index].by_piece(rows):
                    for row in own.tolist():
                        inside = place - int(self.dataset.first[index])
                        writer.writerow([name, piece.source_of(row), int(rows[inside]), int(self.counts[place])])
                        place += 1


def count_seen(run: str | Path) -> Seen:
    """Count how often each training structure was drawn up to the last resumable state of a run.

    Args:
        run: the folder of the training (``output`` of its configuration).

    Raises:
        LamError: if there is no configuration or no state, or the data are not those of the training.
    """
    run = Path(run)
    if not (run / "config.yaml").is_file():
        raise LamError(f"'{run}' is no folder of a training: it holds no 'config.yaml'.")
    config = PretrainConfig.parse(read_yaml(run / "config.yaml"), where=f"'{run / 'config.yaml'}'")
    if not state_file(run).is_file():
        raise LamError(
            f"'{run}' holds no state yet: the first is written at step {config.log.checkpoint_every} "
            "(log.checkpoint_every)."
        )
    stored = SafetensorsCheckpointIO().load_checkpoint(state_file(run)).get("DataModule") or {}
    if "structures" not in stored:
        raise LamError(
            f"The state '{state_file(run)}' does not say which structures it has seen: it is of an older lam."
        )
    if not Path(config.manifest).exists():
        raise LamError(
            f"There is no manifest '{config.manifest}' here; run this where the training of '{run}' was started."
        )
    train = MultiTaskDataset(load_manifest(config.manifest), "train", config.model_config_of_run().cutoff)
    if len(stored["plan"]["probabilities"][0]) != len(train.names):
        raise LamError(
            f"The manifest '{config.manifest}' has {len(train.names)} data sets, and the training of '{run}' had "
            f"{len(stored['plan']['probabilities'][0])}: restore it to count what was seen."
        )
    data = DataModule(
        train, None, batch=config.batch, steps=config.steps, seed=config.seed, validation_structures=1,
        curriculum=config.curriculum,
    )  # fmt: skip
    data.load_state_dict(stored)
    return Seen(stored["step"], stored["structures"], train, data.sampler().seen(stored["structures"]))
