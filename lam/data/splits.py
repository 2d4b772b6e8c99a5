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


def assign_splits(
    groups: Sequence[str] | np.ndarray, spec: SplitSpec | None = None, compositions: np.ndarray | None = None
) -> Split:
    """Divide structures into train, val and test.

    Groups are taken in the order of ``sha256(seed:group)`` into the test set, then into the validation
    set, as long as they fit and every element stays in the training set: a head cannot be tested on an
    element that it has no reference energy for. If less than 0.3 of the wished test fraction is reached
    (few large groups, or a group for each element), frames are held out instead (mode ``block``). If only
    the validation set stays empty in this way, it is left empty: a block would straddle groups. Isolated
    atoms always train.

    Args:
        groups: (S,) the group of each structure, in the order of the file.
        spec: fractions and seed.
        compositions: (S, 119) atoms of each element; without it, elements are not looked at.
    """
    spec = spec or SplitSpec()
    groups = np.asarray(groups, dtype=object).astype(str)
    names = np.full(len(groups), "train", dtype="<U5")
    free = np.flatnonzero(groups != ISOLATED_ATOM)
    has = np.ones((len(groups), 1), dtype=bool) if compositions is None else np.asarray(compositions) > 0
    has = has[free]
    if spec.by == "group":
        test, left = _take(groups[free], has, has.sum(axis=0), spec.test, spec.seed, taken=set())
        if test or spec.test == 0:
            val, _ = _take(groups[free], has, left, spec.val, spec.seed, taken=test)
            names[free[np.isin(groups[free], list(test))]] = "test"
            names[free[np.isin(groups[free], list(val))]] = "val"
            return Split(names=names, mode="group")
    blocks = [free]
    if len(_lost_elements(has, len(free) - sum(_block_sizes(len(free), spec)))):
        # One block at the end would take the last of an element: take one from every group.
        blocks = [free[groups[free] == group] for group in np.unique(groups[free])]
    for block in blocks:
        _hold_out_block(names, block, spec, at_end=len(blocks) == 1)
    return Split(names=names, mode="block")


def _take(
    groups: np.ndarray, has: np.ndarray, left: np.ndarray, fraction: float, seed: int, *, taken: set[str]
) -> tuple[set[str], np.ndarray]:
    """Choose groups for a fraction of the structures.

    Args:
        groups: (S,) group names.
        has: (S, K) does the structure have the element?
        left: (K,) structures of each element that are still to be trained on.
        fraction: wished.
        seed: of the order.
        taken: groups that are not free.

    Returns:
        The groups, and ``left`` after they are taken.
    """
    unique, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    per_group = np.zeros((len(unique), has.shape[1]), dtype=np.int64)
    np.add.at(per_group, member, has)
    order = sorted(range(len(unique)), key=lambda k: hashlib.sha256(f"{seed}:{unique[k]}".encode()).digest())
    wished, total, before = fraction * len(groups), 0, left
    chosen: set[str] = set()
    for k in order:
        if total >= wished:
            break
        remaining = left - per_group[k]
        keeps_elements = bool((remaining[per_group[k] > 0] > 0).all())
        if unique[k] not in taken and total + sizes[k] <= MOST * wished and keeps_elements:
            chosen.add(str(unique[k]))
            total, left = total + sizes[k], remaining
    return (chosen, left) if total >= LEAST * wished else (set(), before)


def _lost_elements(has: np.ndarray, n_train: int) -> np.ndarray:
    """Return the elements that the first ``n_train`` structures lack."""
    return np.flatnonzero(has.any(axis=0) & ~has[:n_train].any(axis=0))


def _hold_out_block(names: np.ndarray, rows: np.ndarray, spec: SplitSpec, *, at_end: bool) -> None:
    """Mark contiguous rows: test after val, at the end or (of many short groups) in the middle."""
    n_test, n_val = _block_sizes(len(rows), spec)
    start = len(rows) - n_test - n_val
    if not at_end:
        start //= 2  # the ends of a short series are extremes, which belong into the training
    names[rows[start : start + n_val]] = "val"
    names[rows[start + n_val : start + n_val + n_test]] = "test"


def _block_sizes(count: int, spec: SplitSpec) -> tuple[int, int]:
    n_test, n_val = round(spec.test * count), round(spec.val * count)
    if count >= 10 and spec.test > 0:
        n_test = max(n_test, 1)
    if n_test + n_val >= count:
        return 0, 0
    return n_test, n_val
