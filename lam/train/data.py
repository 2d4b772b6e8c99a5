"""The data of a training for Lightning: batches by budget that resume at any step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lam.data.dataset import MultiTaskDataset, one_thread
from lam.data.graph import AtomicGraph, collate
from lam.data.mixture import MixturePlan, Stage
from lam.data.sampler import BudgetBatchSampler, Position, SequentialBudgetSampler
from lam.errors import LamError, LamWarning, unknown_name
from lam.train.config import BatchSection, CurriculumStage


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
        skip_damaged: in place of a structure that cannot be read, return one without labels, and warn.
    """

    def __init__(self, dataset: MultiTaskDataset, megabytes: float, *, skip_damaged: bool = False) -> None:
        self.dataset, self.skip_damaged = dataset, skip_damaged
        self.room = megabytes * 1e6
        self._graphs: dict[int, AtomicGraph] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: int) -> AtomicGraph:
        """Return a graph, which must not be changed."""
        graph = self._graphs.get(item)
        if graph is None:
            graph = self._read(item)
            size = sum(v.nbytes for v in graph._store._mapping.values() if isinstance(v, Tensor))
            if size <= self.room:
                self.room -= size
                self._graphs[item] = graph
        return graph

    def _read(self, item: int) -> AtomicGraph:
        try:
            return self.dataset[item]
        except LamError as error:
            if not self.skip_damaged:
                raise
            warnings.warn(f"{error} The training goes on without it.", LamWarning, stacklevel=2)
            return self.dataset.placeholder(item)


class DataModule(pl.LightningDataModule):
    """Training and validation batches.

    Args:
        train: training structures.
        val: validation structures, or None.
        batch: budgets and mixture.
        steps: steps of the whole training.
        seed: of the order.
        validation_structures: largest number of structures of each data set in a validation.
        curriculum: parts of the training with mixtures of their own.
        skip_damaged: go on without structures that cannot be read.
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
        curriculum: Sequence[CurriculumStage] = (),
        skip_damaged: bool = False,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.curriculum, self.skip_damaged = curriculum, skip_damaged
        self._plan: MixturePlan | None = None
        self._start: Position | None = None
        self._sampler: BudgetBatchSampler | None = None
        self._val_graphs = None if val is None else CachedGraphs(val, batch.cache_mb, skip_damaged=skip_damaged)
        self.batch, self.steps, self.seed = batch, steps, seed
        self.validation_structures = validation_structures
        self.validation_is_padding = False

    def sampler(self, *, start: Position | int = 0, rank: int = 0, world_size: int = 1) -> BudgetBatchSampler:
        """Return the batches of one process from a step on.

        Raises:
            LamError: if a stage of the curriculum names an unknown data set.
        """
        return BudgetBatchSampler(
            self.train,
            self.batch.max_atoms,
            self.batch.max_edges,
            temperature=1.0,
            weights=atom_share_weights(self.train, self.batch.temperature),
            max_repeats=self.batch.max_repeats,
            seed=self.seed,
            total_steps=self.steps,
            stages=self._stages(),
            plan=self._plan,
            start=start,
            rank=rank,
            world_size=world_size,
            atom_cost=self.batch.atom_cost,
        )

    def _stages(self) -> list[Stage]:
        names = self.train.names
        for stage in self.curriculum:
            for name in stage.weights:
                if name not in names:
                    raise unknown_name("data set of the curriculum", name, names)
        return [
            Stage(stage.until, np.array([stage.weights.get(name, 1.0) for name in names])) for stage in self.curriculum
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return where the training stands in its data, for its resumable state."""
        if self._sampler is None:
            return {}
        position = self._sampler.position(self.trainer.global_step)
        return {"plan": self._sampler.plan.state(), "step": position.step, "structures": position.structures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` stood, whatever the number of processes is now."""
        if state_dict:
            self._plan = MixturePlan.from_state(state_dict["plan"])
            self._start = Position(state_dict["step"], state_dict["structures"])

    def train_dataloader(self) -> DataLoader:
        """Return the batches from the trainer's step on."""
        trainer = self.trainer
        start = self._start or trainer.global_step
        self._sampler = self.sampler(start=start, rank=trainer.global_rank, world_size=trainer.world_size)
        graphs = CachedGraphs(self.train, self.batch.cache_mb, skip_damaged=self.skip_damaged)
        return self._loader(graphs, ResumingSampler(self._sampler), workers=self.batch.workers)

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
