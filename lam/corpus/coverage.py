"""Counts of elements and pairs of elements, and the greedy choice of what is least covered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from lam.corpus.elements import MAX_Z

EXPLORE = 0.03
"""Share of choices by chance: elements of which a generator can make nothing would else be chosen for ever."""


class Coverage:
    """In how many structures each element, and each pair of elements, occurs."""

    def __init__(self, without: Collection[int] = ()) -> None:
        self.without = frozenset(without)
        """Atomic numbers that are never chosen."""
        self.elements = np.zeros(MAX_Z + 1, dtype=np.int64)
        """(87,), index = Z."""
        self.pairs = np.zeros((MAX_Z + 1, MAX_Z + 1), dtype=np.int64)
        """(87, 87), symmetric; the diagonal counts structures with two or more atoms of the element."""
        self.structures = 0

    def add(self, numbers: np.ndarray) -> None:
        """Count one structure by its atomic numbers, (N,)."""
        kinds, counts = np.unique(np.asarray(numbers), return_counts=True)
        self.elements[kinds] += 1
        self.pairs[np.ix_(kinds, kinds)] += 1
        single = kinds[counts == 1]
        self.pairs[single, single] -= 1
        self.structures += 1

    def merge(self, other: Coverage) -> None:
        """Add the counts of another."""
        self.elements += other.elements
        self.pairs += other.pairs
        self.structures += other.structures

    def choose(self, slots: Sequence[Sequence[int]], random: np.random.Generator, *, repeat: bool = False) -> list[int]:
        """Return one element for each slot, such that the least covered pairs and elements are filled.

        Args:
            slots: elements that are possible at each.
            random: decides between equals.
            repeat: may two slots get the same element?
        """
        slots = [[z for z in slot if z not in self.without] for slot in slots]
        if random.random() < EXPLORE:
            slots = [[int(random.choice(slot))] for slot in slots]
            repeat = True
        chosen: list[int] = []
        # Slots are filled in random order, the first two together: a pair is planned, not met by chance.
        order = [int(i) for i in random.permutation(len(slots))]
        values: dict[int, int] = {}
        if len(slots) >= 2:
            first, second = (np.asarray(slots[i]) for i in order[:2])
            score = self._pair_need(first, second)
            score = score + 0.5 * (self._need(first)[:, None] + self._need(second)[None, :])
            if not repeat:
                score = np.where(first[:, None] == second[None, :], np.inf, score)
            row, column = np.unravel_index(_lowest(score, random), score.shape)
            values[order[0]], values[order[1]] = int(first[row]), int(second[column])
            chosen = [int(first[row]), int(second[column])]
        for slot in order[len(chosen) :]:
            pool = np.asarray([z for z in slots[slot] if repeat or z not in chosen])
            score = 0.5 * self._need(pool)
            if chosen:
                score = score + self._pair_need(pool, np.asarray(chosen)).mean(axis=1)
            values[slot] = int(pool[_lowest(score, random)])
            chosen.append(values[slot])
        return [values[i] for i in range(len(slots))]

    def to_dict(self) -> dict[str, Any]:
        """Return a summary in plain values."""
        real = np.zeros((MAX_Z + 1, MAX_Z + 1), dtype=bool)
        real[1:, 1:] = True
        upper = self.pairs[np.triu(real)]
        return {
            "structures": self.structures,
            "elements_covered": int((self.elements[1:] > 0).sum()),
            "least_element": int(self.elements[1:].min()),
            "pairs": len(upper),
            "pairs_covered": int((upper > 0).sum()),
            "pairs_median": float(np.median(upper)),
        }

    def _need(self, pool: np.ndarray) -> np.ndarray:
        return self.elements[pool] / (self.elements[1:].mean() + 1.0)

    def _pair_need(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return self.pairs[np.ix_(first, second)] / (self.pairs[1:, 1:].mean() + 1.0)


def _lowest(score: np.ndarray, random: np.random.Generator) -> int:
    """Return the flat index of the lowest score, any of those that are equal."""
    flat = score.ravel()
    return int(random.choice(np.flatnonzero(flat <= flat.min() + 1e-12)))
