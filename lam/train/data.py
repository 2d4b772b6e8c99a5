"""The data of a training for Lightning: batches by budget that resume at any step."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lam.data.dataset import MultiTaskDataset, one_thread
from lam.data.graph import AtomicGraph, collate
from lam.data.sampler import BudgetBatchSampler, SequentialBudgetSampler
from lam.train.config import BatchSection


class ResumingSampler(Sampler[list[int]]):
    """The batches of a whole training; iterating starts at the step where the training stands.

    Its length is that of the whole training, so that Lightning's progress fits after a resume.
    """

    def __init__(self, sampler: BudgetBatchSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return self.sampler.total_steps

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.sampler)


class CachedGraphs(Dataset):
    """The graphs of a data set, built when first asked for and kept while there is room.

    Reading a structure and finding its neighbours takes some 0.7 ms, a tenth of a training step on few atoms.
    A data-loader worker has a cache of its own.

    Args:
        dataset: the structures.
        megabytes: room; 0 keeps nothing.
    """

    def __init__(self, dataset: MultiTaskDataset, megabytes: float) -> None:
        self.dataset = dataset
        self.room = megabytes * 1e6
        self._graphs: dict[int, AtomicGraph] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: int) -> AtomicGraph:
        """Return a graph, which must not be changed."""
        graph = self._graphs.get(item)
        if graph is None:
            graph = self.dataset[item]
            size = sum(v.nbytes for v in graph._store._mapping.values() if isinstance(v, Tensor))
            if size <= self.room:
                self.room -= size
                self._graphs[item] = graph
        return graph


class DataModule(pl.LightningDataModule):
    """Training and validation batches.

    Args:
        train: training structures.
        val: validation structures, or None.
        batch: budgets and mixture.
        steps: steps of the whole training.
        seed: of the order.
        validation_structures: largest number of structures of each data set in a validation.
    """

    def __init__(
        self,
        train: MultiTaskDataset,
        val: MultiTaskDataset | None,
        *,
        batch: BatchSection,
        steps: int,
        seed: int,
        validation_structures: int,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self._val_graphs = None if val is None else CachedGraphs(val, batch.cache_mb)
        self.batch, self.steps, self.seed = batch, steps, seed
        self.validation_structures = validation_structures
        self.validation_is_padding = False

    def sampler(self, *, start_step: int, rank: int, world_size: int) -> BudgetBatchSampler:
        """Return the batches of one process from a step on."""
        return BudgetBatchSampler(
            self.train,
            self.batch.max_atoms,
            self.batch.max_edges,
            temperature=1.0,
            weights=atom_share_weights(self.train, self.batch.temperature),
            max_repeats=self.batch.max_repeats,
            seed=self.seed,
            total_steps=self.steps,
            start_step=start_step,
            rank=rank,
            world_size=world_size,
        )

    def train_dataloader(self) -> DataLoader:
        """Return the batches from the trainer's step on."""
        trainer = self.trainer
        sampler = self.sampler(start_step=trainer.global_step, rank=trainer.global_rank, world_size=trainer.world_size)
        graphs = CachedGraphs(self.train, self.batch.cache_mb)
        return self._loader(graphs, ResumingSampler(sampler), workers=self.batch.workers)

    def val_dataloader(self) -> DataLoader | list:
        """Return this process's validation batches; read in line, so that no second worker starts each time."""
        if self.val is None or not len(self.val):
            return []
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        sampler = self._validation_sampler(rank, world_size)
        self.validation_is_padding = not len(sampler)
        if self.validation_is_padding:
            # Every process must take part in the validation, or the sum over processes would wait for ever.
            sampler = SequentialBudgetSampler(self.val, 1, 1, max_per_dataset=1, world_size=len(self.val))
        return self._loader(self._val_graphs, sampler, workers=0)

    def _validation_sampler(self, rank: int, world_size: int) -> SequentialBudgetSampler:
        return SequentialBudgetSampler(
            self.val,
            self.batch.max_atoms,
            self.batch.max_edges,
            max_per_dataset=self.validation_structures,
            rank=rank,
            world_size=world_size,
        )

    def _loader(self, dataset: Dataset, sampler: Sampler, *, workers: int) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=one_thread,
            prefetch_factor=4 if workers else None,
            # Spawned rather than forked: the parent has threads by the time loaders start.
            multiprocessing_context="spawn" if workers else None,
        )


def atom_share_weights(dataset: MultiTaskDataset, temperature: float) -> np.ndarray:
    """Return a factor for each structure of each data set, so that its atoms seen go as a power.

    A data set with A atoms gets a share of the atoms seen, that is of the compute, proportional to
    ``weight * A ** temperature``.
    """
    atoms = np.array([dataset.n_atoms[dataset.items_of(d)].sum() for d in range(len(dataset.sizes))], dtype=float)
    return dataset.weights * np.where(atoms > 0, np.maximum(atoms, 1.0) ** (temperature - 1.0), 0.0)
