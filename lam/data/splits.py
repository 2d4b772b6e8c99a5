"""Held-out structures: whole groups, chosen by the hash of their names, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from lam.config import Section
from lam.data.structure import ISOLATED_ATOM

SPLITS = ("train", "val", "test")
MOST = 1.5  # times the wished fraction: how much a large group may overshoot
LEAST = 0.3  # times the wished fraction: with less than this the groups are too big to be split


class SplitSpec(Section):
    """How a data set is divided into train, validation and test."""

    by: Literal["group", "block"] = "group"
    """``group``: whole groups are held out (falls back to ``block`` when groups are too big);
    ``block``: the last frames of the file."""
    test: float = Field(0.1, ge=0, lt=1)
    """Fraction of the structures that is held out for the test."""
    val: float = Field(0.05, ge=0, lt=1)
    """Fraction of the structures for validation while training."""
    seed: int = 0
    """Changes which groups are held out."""

    @model_validator(mode="after")
    def _something_is_left(self) -> SplitSpec:
        if self.test + self.val >= 1:
            raise ValueError("the fractions test and val leave nothing to train on")
        return self


@dataclass(frozen=True)
class Split:
    """The result: a name of :data:`SPLITS` for each structure, and how it came about."""

    names: np.ndarray
    """(S,) of "train", "val", "test"."""
    mode: Literal["group", "block"]
    """``group``: no group straddles. ``block``: contiguous frames of one trajectory or set were held out,
    which is easier to predict; reports say so."""

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of one split, (n,) int64."""
        return np.flatnonzero(self.names == name)

    def counts(self) -> dict[str, int]:
        """Return the number of structures of each split."""
        return {name: int((self.names == name).sum()) for name in SPLITS}


def assign_splits(groups: Sequence[str] | np.ndarray, spec: SplitSpec | None = None) -> Split:
    """Divide structures into train, val and test.

    Groups are taken in the order of ``sha256(seed:group)`` into the test set, then into the validation
    set, as long as they fit. If so few and large groups exist that less than 0.3 of the wished test
    fraction is reached, the last frames are held out instead (mode ``block``). If only the validation set
    stays empty in this way, it is left empty: a block would straddle groups. Isolated atoms always train.

    Args:
        groups: (S,) the group of each structure, in the order of the file.
        spec: fractions and seed.
    """
    spec = spec or SplitSpec()
    groups = np.asarray(groups, dtype=object).astype(str)
    names = np.full(len(groups), "train", dtype="<U5")
    free = np.flatnonzero(groups != ISOLATED_ATOM)
    if spec.by == "group":
        test, rest = _take(groups[free], spec.test, spec.seed, taken=set())
        if test or spec.test == 0:
            val, _ = _take(groups[free], spec.val, spec.seed, taken=test, order=rest)
            names[free[np.isin(groups[free], list(test))]] = "test"
            names[free[np.isin(groups[free], list(val))]] = "val"
            return Split(names=names, mode="group")
    n_test, n_val = _block_sizes(len(free), spec)
    names[free[len(free) - n_test :]] = "test"
    names[free[len(free) - n_test - n_val : len(free) - n_test]] = "val"
    return Split(names=names, mode="block")


def _take(
    groups: np.ndarray, fraction: float, seed: int, *, taken: set[str], order: list[str] | None = None
) -> tuple[set[str], list[str]]:
    """Return the groups chosen for a fraction of the structures, and the order of all groups."""
    unique, counts = np.unique(groups, return_counts=True)
    sizes = dict(zip(unique.tolist(), counts.tolist(), strict=True))
    order = order or sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    wished = fraction * len(groups)
    chosen: set[str] = set()
    total = 0
    for group in order:
        if total >= wished:
            break
        if group not in taken and total + sizes[group] <= MOST * wished:
            chosen.add(group)
            total += sizes[group]
    return (chosen if total >= LEAST * wished else set()), order


def _block_sizes(count: int, spec: SplitSpec) -> tuple[int, int]:
    n_test, n_val = round(spec.test * count), round(spec.val * count)
    if count >= 10 and spec.test > 0:
        n_test = max(n_test, 1)
    if n_test + n_val >= count:
        return 0, 0
    return n_test, n_val
