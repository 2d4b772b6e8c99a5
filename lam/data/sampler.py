"""Batches by budget: filled up to so many atoms and edges, mixed from data sets, the same on any number of ranks.

The plan is one endless sequence of structures, a pure function of the seed and the mixture. It is made in pieces of
fixed length. How often a data set occurs in a piece follows from its probability alone, so that the place in each
data set's own stream (shuffled epoch after shuffled epoch) is known at the start of every piece without
looking back. Global batches are cut from the sequence one after the other, each beginning where the last one ended:
a training resumes at a *position* in the sequence, with batches of any size, and no structure is lost or repeated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from lam.data.balance import ATOM_COST, costs_of, share
from lam.data.dataset import MultiTaskDataset
from lam.data.mixture import MixturePlan, Stage, plan_mixture
from lam.errors import LamError

_KEPT_ORDERS = 1_000_000  # structures, of each data set; smaller ones are passed through several times in a piece
_KEPT_POSITIONS = 10_000  # steps: more than any loader reads ahead


class Position(NamedTuple):
    """Where a training stands: after so many steps, and so many structures of the sequence."""

    step: int = 0
    structures: int = 0


class BudgetBatchSampler(Sampler[list[int]]):
    """Yield, for every step, the items of this rank's share of the global batch.

    A global batch holds structures up to ``world_size`` times the budget of a rank, and at least
    ``min_structures`` (and one for each rank), even if one is larger than the budget: none is dropped.
    The same seed and the same *global* budget give the same global batches for every number of ranks up to
    ``min_structures``. Shares are balanced by cost; a rank may exceed its own budget a little.

    Args:
        dataset: the structures.
        max_atoms: atoms per rank and step.
        max_edges: edges per rank and step; ``None`` for no limit.
        temperature: a data set of n structures is drawn with probability ~ weight * n**temperature; 1 draws
            all structures equally often, 0 all data sets.
        weights: factor of each data set; by default those of the manifest.
        max_repeats: no data set is passed through more often than this in the whole training.
        stages: parts of the training with further factors of the data sets.
        plan: the mixture, as a training that is resumed has it; otherwise it follows from the arguments above.
        seed: of the order.
        total_steps: number of steps of the training.
        start: where to begin, to resume. A step without a position is found by cutting all batches before it.
        rank: this process.
        world_size: number of processes.
        min_structures: least number of structures of a global batch.
        atom_cost: time of an atom over that of an edge, for balancing.
    """

    def __init__(
        self,
        dataset: MultiTaskDataset,
        max_atoms: int,
        max_edges: int | None = None,
        *,
        temperature: float = 0.5,
        weights: np.ndarray | None = None,
        max_repeats: float | None = None,
        stages: Sequence[Stage] = (),
        plan: MixturePlan | None = None,
        seed: int = 0,
        total_steps: int,
        start: Position | int = 0,
        rank: int = 0,
        world_size: int = 1,
        min_structures: int = 2,
        atom_cost: float = ATOM_COST,
    ) -> None:
        if not len(dataset):
            raise LamError(f"There is no structure to train on in the split '{dataset.split}'.")
        if max_atoms < 1 or (max_edges is not None and max_edges < 1):
            raise LamError("The budget of a batch must be at least one atom and one edge.")
        self.n_atoms, self.n_edges = dataset.n_atoms, dataset.n_edges
        self.sizes, self.first = dataset.sizes, dataset.first
        self.budget_atoms = max_atoms * world_size
        self.budget_edges = math.inf if max_edges is None else max_edges * world_size
        self.seed, self.total_steps, self.start = seed, total_steps, start
        self.rank, self.world_size, self.atom_cost = rank, world_size, atom_cost
        self._orders: dict[int, dict[int, np.ndarray]] = {}
        self._positions: dict[int, int] = {}
        self.least = max(min_structures, world_size)
        weights = dataset.weights if weights is None else np.asarray(weights, dtype=np.float64)
        wished = np.where(self.sizes > 0, weights * self.sizes.astype(np.float64) ** temperature, 0.0)
        self.plan = plan or self._plan(wished, stages, max_repeats)

    def __len__(self) -> int:
        return max(self.total_steps - (self.start.step if isinstance(self.start, Position) else self.start), 0)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.global_batches(self.start):
            yield share(batch, self.costs(batch), self.world_size)[self.rank]

    def costs(self, items: np.ndarray) -> np.ndarray:
        """Return the cost of items by which shares are balanced."""
        return costs_of(self.n_atoms[items], self.n_edges[items], self.atom_cost)

    def global_batches(self, start: Position | int = 0) -> Iterator[np.ndarray]:
        """Yield the items of each global batch, from ``start`` to the last step."""
        step, position = start if isinstance(start, Position) else (0, 0)
        first = start.step if isinstance(start, Position) else start
        self._positions[step] = position
        pieces = self._pieces(position)
        left = np.empty(0, dtype=np.int64)
        while step < self.total_steps:
            sequence = np.concatenate([left, next(pieces)])
            cuts = self._cuts(sequence)
            for begin, end in itertools.pairwise(cuts):
                if step >= self.total_steps:
                    return
                step, position = step + 1, position + end - begin
                self._positions[step] = position
                self._positions.pop(step - _KEPT_POSITIONS, None)
                if step > first:
                    yield sequence[begin:end]
            left = sequence[cuts[-1] :]

    def position(self, step: int) -> Position:
        """Return the position after ``step`` steps, which have been drawn and not long ago."""
        return Position(step, self._positions[step])

    def seen(self, position: int) -> np.ndarray:
        """Return how often each item is among the first ``position`` structures of the sequence, (S,) int64."""
        counts = np.zeros(len(self.n_atoms), dtype=np.int64)
        for piece in self._pieces(0):
            counts += np.bincount(piece[:position], minlength=len(counts))
            position -= len(piece)
            if position <= 0:
                return counts
        raise AssertionError("the sequence has no end")

    def repeats(self) -> np.ndarray:
        """Return about how often each data set is passed through in the whole training, (D,)."""
        mean = self._mean_probabilities(self.plan, self._expected_draws(self.plan.probabilities[-1]))
        passes = mean * self._expected_draws(mean)
        return np.divide(passes, self.sizes, out=np.zeros(len(self.sizes)), where=self.sizes > 0)

    def _cuts(self, sequence: np.ndarray) -> list[int]:
        """Return the borders of the batches of a sequence; what follows the last border is left for later."""
        atoms = np.concatenate([[0.0], np.cumsum(self.n_atoms[sequence], dtype=np.float64)])
        edges = np.concatenate([[0.0], np.cumsum(self.n_edges[sequence], dtype=np.float64)])
        # For every possible beginning, the end to which the budget reaches.
        ends = np.searchsorted(atoms, atoms + self.budget_atoms, side="right") - 1
        if math.isfinite(self.budget_edges):
            ends = np.minimum(ends, np.searchsorted(edges, edges + self.budget_edges, side="right") - 1)
        ends = np.maximum(ends, np.arange(len(atoms)) + self.least).tolist()
        cuts = [0]
        while ends[cuts[-1]] < len(sequence):
            cuts.append(ends[cuts[-1]])
        return cuts

    def _pieces(self, position: int) -> Iterator[np.ndarray]:
        """Yield the sequence from a position on, piece by piece."""
        number, offset = self.plan.locate(position)
        for piece in itertools.count(number):
            yield self._piece(piece)[offset:]
            offset = 0

    def _piece(self, number: int) -> np.ndarray:
        """Return the items of one piece of the sequence."""
        piece = self.plan.piece(number)
        parts = [self._stream(d, int(piece.begin[d]), int(piece.end[d])) for d in np.flatnonzero(self.sizes)]
        sequence = np.concatenate(parts)
        # Streams are merged at random, each keeping its own order: no structure before its turn.
        owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        np.random.default_rng([self.seed, 1, number]).shuffle(owner)
        merged = np.empty_like(sequence)
        merged[np.argsort(owner, kind="stable")] = sequence
        return merged

    def _stream(self, dataset: int, begin: int, end: int) -> np.ndarray:
        """Return the items at places ``begin`` to ``end`` of a data set's stream of shuffled epochs."""
        size = int(self.sizes[dataset])
        if begin == end:
            return np.empty(0, dtype=np.int64)
        epochs = range(begin // size, (end - 1) // size + 1)
        items = np.concatenate([self._order(int(dataset), epoch, size) for epoch in epochs])
        return items[begin - epochs[0] * size : end - epochs[0] * size] + self.first[dataset]

    def _order(self, dataset: int, epoch: int, size: int) -> np.ndarray:
        """Return the order of a data set in an epoch. Few are kept: that of 1e8 structures takes 400 MB."""
        kept = self._orders.setdefault(dataset, {})
        if epoch not in kept:
            while len(kept) > 1 and (len(kept) + 1) * size > _KEPT_ORDERS:
                del kept[min(kept)]
            order = np.random.default_rng([self.seed, 0, dataset, epoch]).permutation(size)
            kept[epoch] = order.astype(np.int32) if size < 2**31 else order
        return kept[epoch]

    def _expected_draws(self, probabilities: np.ndarray) -> float:
        """Return about how many structures the whole training draws."""
        mean = [
            sum(
                p * values[self.first[d] : self.first[d + 1]].mean()
                for d, p in enumerate(probabilities)
                if self.sizes[d]
            )
            for values in (self.n_atoms, self.n_edges)
        ]
        per_step = min(self.budget_atoms / mean[0], self.budget_edges / max(mean[1], 1e-9))
        return self.total_steps * max(per_step, self.least)

    def _plan(self, wished: np.ndarray, stages: Sequence[Stage], max_repeats: float | None) -> MixturePlan:
        """Return the mixture: the shares that are wished for, but for data sets that would repeat too often."""
        mean = wished / wished.sum()
        plan = plan_mixture(self.sizes, wished, stages, None)
        for _ in range(100):  # the number of draws depends on the shares, and they on it: repeat until they agree
            draws = self._expected_draws(mean)
            limit = None if max_repeats is None else max_repeats * self.sizes / draws
            plan = plan_mixture(self.sizes, wished, stages, round(draws), limit)
            before, mean = mean, self._mean_probabilities(plan, draws)
            if np.allclose(mean, before, rtol=1e-4, atol=0):
                break
        return plan

    @staticmethod
    def _mean_probabilities(plan: MixturePlan, draws: float) -> np.ndarray:
        """Return the share of each data set in the whole training, (D,)."""
        lengths = np.array([*plan.lengths, max(draws - sum(plan.lengths), 1.0)])
        return np.average(plan.probabilities, axis=0, weights=lengths)


class SequentialBudgetSampler(Sampler[list[int]]):
    """Yield every structure once, in order of size, packed to the budget and dealt out to the ranks.

    Args:
        dataset: the structures.
        max_atoms: atoms per batch.
        max_edges: edges per batch; ``None`` for no limit.
        max_per_dataset: take at most so many structures of each data set, evenly spaced.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        dataset: MultiTaskDataset,
        max_atoms: int,
        max_edges: int | None = None,
        *,
        max_per_dataset: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        chosen = [_spaced(dataset.items_of(d), max_per_dataset) for d in range(len(dataset.sizes))]
        items = np.concatenate(chosen)
        items = items[np.argsort(dataset.n_edges[items] + dataset.n_atoms[items], kind="stable")]
        limit = math.inf if max_edges is None else max_edges
        batches: list[list[int]] = []
        atoms = edges = math.inf
        for item in items.tolist():
            atoms += dataset.n_atoms[item]
            edges += dataset.n_edges[item]
            if atoms > max_atoms or edges > limit:
                batches.append([])
                atoms, edges = dataset.n_atoms[item], dataset.n_edges[item]
            batches[-1].append(item)
        self.batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def _spaced(items: np.ndarray, count: int | None) -> np.ndarray:
    if count is None or len(items) <= count:
        return items
    return items[np.linspace(0, len(items) - 1, count).round().astype(np.int64)]
