"""Splits of shards: the same as :func:`lam.data.splits.assign_splits`, without a row of names for each structure.

A data set of 1e8 structures has no room in memory for the name and the composition of each; its groups are
numbered, and what a split needs to know about elements is kept for each group.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lam.data.shard_folder import GroupElements, Shards
from lam.data.shards import Shard
from lam.data.split_keys import cannot_divide, everything_held_out, formula_keys, held_out
from lam.data.splits import LEAST, MOST, SPLITS, Split, SplitSpec, assign_splits
from lam.data.structure import ISOLATED_ATOM, MAX_ATOMIC_NUMBER

_WIDTH = MAX_ATOMIC_NUMBER + 1


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

    Raises:
        LamError: as there.
    """
    spec = spec or SplitSpec()
    if isinstance(shard, Shard):
        return assign_splits(shard.groups, spec, shard.compositions())
    if spec.by in ("element", "size"):
        return _hold_out_content(shard, spec)
    if spec.by in ("composition", "prototype"):
        return _hold_out_formulas(shard, spec)
    if spec.by == "group":
        chosen = _choose_groups(_groups_of(shard), spec)
        if chosen is not None:
            return CodedSplit(chosen[shard.group_codes], "group")
    return _hold_out(shard, spec)


@dataclass(frozen=True)
class _Groups:
    """What is held out as a whole: groups, compositions or prototypes."""

    names: np.ndarray
    """(G,) text."""
    codes: np.ndarray
    """(S,) index of each structure's group."""
    elements: GroupElements


def _groups_of(shards: Shards) -> _Groups:
    return _Groups(shards.group_names.astype(str), shards.group_codes, shards.group_elements())


def _hold_out_formulas(shards: Shards, spec: SplitSpec) -> CodedSplit:
    """Hold out whole compositions or prototypes; the shards are read one after the other for their elements."""
    numbers: dict[str, int] = {ISOLATED_ATOM: 0}
    codes, present, counts = [], [], []
    for piece in shards.pieces():
        compositions = piece.compositions()
        texts, local = formula_keys(compositions, spec.by)
        known = np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
        of_rows = np.where(piece.groups == ISOLATED_ATOM, 0, known[local] if len(known) else local)
        rows, elements = np.nonzero(compositions)
        found, number = np.unique(of_rows[rows] * _WIDTH + elements, return_counts=True)
        codes.append(of_rows.astype(np.int32))
        present.append(found)
        counts.append(number)
    unique, place = np.unique(np.concatenate(present), return_inverse=True)
    total = np.bincount(place, weights=np.concatenate(counts)).astype(np.int64)
    table = GroupElements(unique // _WIDTH, unique % _WIDTH, total)
    groups = _Groups(np.array(list(numbers)), np.concatenate(codes), table)
    chosen = _choose_groups(groups, spec)
    if chosen is None:
        sizes = np.bincount(groups.codes, minlength=len(numbers))
        there = (sizes > 0) & (groups.names != ISOLATED_ATOM)
        if there.any():
            raise cannot_divide(spec.by, groups.names[there], sizes[there], MOST, spec)
        chosen = np.zeros(len(numbers), dtype=np.uint8)
    return CodedSplit(chosen[groups.codes], "group")


def _hold_out_content(shards: Shards, spec: SplitSpec) -> CodedSplit:
    """Hold out structures with some elements or above a size, and validation groups that have none of them."""
    parts, lost = [], np.zeros(_WIDTH, dtype=np.int64)
    for piece in shards.pieces():
        compositions = piece.compositions()
        chosen = held_out(compositions, spec) & (piece.groups != ISOLATED_ATOM)
        lost += (compositions[chosen] > 0).sum(axis=0)
        parts.append(chosen)
    test = np.concatenate(parts)
    groups = _groups_of(shards)
    isolated = (groups.names == ISOLATED_ATOM)[groups.codes]
    if not isolated.all() and (test | isolated).all():
        raise everything_held_out(spec)
    touched = np.zeros(len(groups.names), dtype=bool)
    touched[groups.codes[test]] = True
    chosen_groups = _choose_groups(groups, spec, touched=touched, lost=lost)
    assert chosen_groups is not None  # only a test that cannot be chosen gives None
    codes = np.where(test, SPLITS.index("test"), np.where(touched, 0, chosen_groups)[groups.codes])
    return CodedSplit(codes.astype(np.uint8), "group")


def _choose_groups(
    groups: _Groups, spec: SplitSpec, *, touched: np.ndarray | None = None, lost: np.ndarray | None = None
) -> np.ndarray | None:
    """Return the split of each group, (G,) uint8; None if the groups are too big to be divided.

    Args:
        groups: what is chosen from.
        spec: fractions and seed.
        touched: (G,) bool, groups that a test chosen otherwise has structures of; then only validation is chosen.
        lost: (119,) structures of each element that this test takes.
    """
    names = groups.names
    sizes = np.bincount(groups.codes, minlength=len(names))
    free = names != ISOLATED_ATOM
    table = groups.elements
    table_first = np.searchsorted(table.group, np.arange(len(names) + 1))
    counted = free[table.group]
    left = np.bincount(table.element[counted], table.count[counted], minlength=_WIDTH).astype(np.int64)
    order = sorted(np.flatnonzero(free), key=lambda k: hashlib.sha256(f"{spec.seed}:{names[k]}".encode()).digest())
    codes = np.zeros(len(names), dtype=np.uint8)
    total = int(sizes[free].sum())
    fractions = [("test", spec.test), ("val", spec.val)]
    if touched is not None and lost is not None:
        codes[touched] = SPLITS.index("test")
        left -= lost
        fractions = fractions[1:]
    for name, fraction in fractions:
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
