"""Splits of shards: the same as :func:`lam.data.splits.assign_splits`, without a row of names for each structure.

A data set of 1e8 structures has no room in memory for the name and the composition of each; its groups are
numbered, and what a split needs to know about elements is kept for each group.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lam.data.shard_folder import Shards
from lam.data.shards import Shard
from lam.data.splits import LEAST, MOST, SPLITS, Split, SplitSpec, assign_splits
from lam.data.structure import ISOLATED_ATOM, MAX_ATOMIC_NUMBER


@dataclass(frozen=True)
class CodedSplit:
    """A :class:`~lam.data.splits.Split` that holds one byte for each structure."""

    codes: np.ndarray
    """(S,) uint8, index into :data:`~lam.data.splits.SPLITS`."""
    mode: Literal["group", "block"]
    """As in :class:`~lam.data.splits.Split`."""

    @property
    def names(self) -> np.ndarray:
        """(S,) of "train", "val", "test"."""
        return np.array(SPLITS)[self.codes]

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of one split, (n,) int64."""
        return np.flatnonzero(self.codes == SPLITS.index(name))

    def counts(self) -> dict[str, int]:
        """Return the number of structures of each split."""
        return {name: int((self.codes == code).sum()) for code, name in enumerate(SPLITS)}


def split_shard(shard: Shard | Shards, spec: SplitSpec | None = None) -> Split | CodedSplit:
    """Divide the structures of a shard, or of a folder of shards, into train, val and test.

    See :func:`~lam.data.splits.assign_splits`; the result does not depend on how structures are dealt out to shards.
    """
    spec = spec or SplitSpec()
    if isinstance(shard, Shard):
        return assign_splits(shard.groups, spec, shard.compositions())
    if spec.by == "group":
        chosen = _choose_groups(shard, spec)
        if chosen is not None:
            return CodedSplit(chosen[shard.group_codes], "group")
    return _hold_out(shard, spec)


def _choose_groups(shards: Shards, spec: SplitSpec) -> np.ndarray | None:
    """Return the split of each group, (G,) uint8; None if the groups are too big to be divided."""
    names = shards.group_names.astype(str)
    sizes = np.bincount(shards.group_codes, minlength=len(names))
    free = names != ISOLATED_ATOM
    table = shards.group_elements()
    table_first = np.searchsorted(table.group, np.arange(len(names) + 1))
    counted = free[table.group]
    left = np.bincount(table.element[counted], table.count[counted], minlength=MAX_ATOMIC_NUMBER + 1).astype(np.int64)
    order = sorted(np.flatnonzero(free), key=lambda k: hashlib.sha256(f"{spec.seed}:{names[k]}".encode()).digest())
    codes = np.zeros(len(names), dtype=np.uint8)
    total = int(sizes[free].sum())
    for name, fraction in (("test", spec.test), ("val", spec.val)):
        wished, taken, before = fraction * total, 0, left.copy()
        groups: list[int] = []
        for k in order:
            if taken >= wished:
                break
            rows = slice(table_first[k], table_first[k + 1])
            remaining = left[table.element[rows]] - table.count[rows]
            if codes[k] == 0 and taken + sizes[k] <= MOST * wished and (remaining > 0).all():
                groups.append(k)
                taken += int(sizes[k])
                left[table.element[rows]] = remaining
        if taken >= LEAST * wished:
            codes[groups] = SPLITS.index(name)
        else:
            left = before
            groups = []
        if name == "test" and not groups and spec.test != 0:
            return None
    return codes


def _hold_out(shards: Shards, spec: SplitSpec) -> CodedSplit:
    """Hold out frames: the last ones, or, if these hold the last of an element, the middle of every group."""
    codes = np.zeros(len(shards), dtype=np.uint8)
    isolated = shards.group_names.astype(str) == ISOLATED_ATOM
    free = np.flatnonzero(~isolated[shards.group_codes])
    n_train = len(free) - sum(_block_sizes(len(free), spec))
    table = shards.group_elements()
    occur = np.unique(table.element[~isolated[table.group]])
    blocks = [free]
    if not shards.elements_of(free[:n_train])[occur].all():
        # One block at the end would take the last of an element: take one from every group.
        by_group = free[np.argsort(shards.group_codes[free], kind="stable")]
        blocks = np.split(by_group, np.flatnonzero(np.diff(shards.group_codes[by_group])) + 1)
    for block in blocks:
        _mark(codes, block, spec, at_end=len(blocks) == 1)
    return CodedSplit(codes, "block")


def _mark(codes: np.ndarray, rows: np.ndarray, spec: SplitSpec, *, at_end: bool) -> None:
    n_test, n_val = _block_sizes(len(rows), spec)
    start = len(rows) - n_test - n_val
    if not at_end:
        start //= 2
    codes[rows[start : start + n_val]] = SPLITS.index("val")
    codes[rows[start + n_val : start + n_val + n_test]] = SPLITS.index("test")


def _block_sizes(count: int, spec: SplitSpec) -> tuple[int, int]:
    n_test, n_val = round(spec.test * count), round(spec.val * count)
    if count >= 10 and spec.test > 0:
        n_test = max(n_test, 1)
    return (0, 0) if n_test + n_val >= count else (n_test, n_val)
