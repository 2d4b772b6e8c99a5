"""Held-out structures: whole groups or compositions, chosen by the hash of their names, the same on every machine.

Or all structures with some elements, or above some size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from lam.config import Section
from lam.data.split_keys import cannot_divide, everything_held_out, formula_keys, held_out
from lam.data.structure import ISOLATED_ATOM

SPLITS = ("train", "val", "test")
MOST = 1.5  # times the wished fraction: how much a large group may overshoot
LEAST = 0.3  # times the wished fraction: with less than this the groups are too big to be split


class SplitSpec(Section):
    """How a data set is divided into train, validation and test."""

    by: Literal["group", "block", "composition", "prototype", "element", "size"] = "group"
    """``group``: whole groups are held out (falls back to ``block`` when groups are too big);
    ``block``: the last frames of the file; ``composition``: whole reduced formulas; ``prototype``: whole
    stoichiometries without the names of the elements (``ABC3``); ``element``: all structures with one of
    ``elements`` are the test; ``size``: all with more than ``max_atoms`` atoms."""
    test: float = Field(0.1, ge=0, lt=1)
    """Fraction of the structures that is held out for the test; without effect by ``element`` and ``size``."""
    val: float = Field(0.05, ge=0, lt=1)
    """Fraction of the structures for validation while training; by ``element`` and ``size`` of whole groups."""
    seed: int = 0
    """Changes which groups (compositions, prototypes) are held out."""
    elements: list[str] = []
    """Symbols of the elements to hold out, for ``by: element``."""
    max_atoms: int | None = Field(None, ge=1)
    """Structures with more atoms are held out, for ``by: size``."""

    @field_validator("elements")
    @classmethod
    def _elements_exist(cls, value: list[str]) -> list[str]:
        for symbol in value:
            if atomic_numbers.get(symbol, 0) < 1:
                raise ValueError(f"'{symbol}' is no element; write symbols such as Li")
        return value

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> SplitSpec:
        for key, by in (("elements", "element"), ("max_atoms", "size")):
            if bool(getattr(self, key)) != (self.by == by):
                raise ValueError(f"'{key}' belongs to 'by: {by}', which needs it")
        return self

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
    """``group``: no group straddles, or nothing else that was asked to be held out as a whole. ``block``: contiguous
    frames of one trajectory or set were held out, which is easier to predict; reports say so."""

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

    Compositions and prototypes are taken in the same way in place of groups, but never divided. By element and size,
    the test is what was asked for, and the validation set is made of groups that the test has no structure of.

    Args:
        groups: (S,) the group of each structure, in the order of the file.
        spec: fractions and seed.
        compositions: (S, 119) atoms of each element; without it, elements are not looked at, and structures can be
            split by group and block only.

    Raises:
        LamError: if whole compositions or prototypes cannot make up a test, or nothing is left to train on.
    """
    spec = spec or SplitSpec()
    groups = np.asarray(groups, dtype=object).astype(str)
    names = np.full(len(groups), "train", dtype="<U5")
    free = np.flatnonzero(groups != ISOLATED_ATOM)
    has = np.ones((len(groups), 1), dtype=bool) if compositions is None else np.asarray(compositions) > 0
    has = has[free]
    if spec.by not in ("group", "block"):
        if compositions is None:
            raise ValueError(f"a split by {spec.by} needs the compositions")
        own = np.asarray(compositions)[free]
        if spec.by in ("element", "size"):
            _hold_out_content(names, free, groups[free], has, held_out(own, spec), spec)
        else:
            _hold_out_formulas(names, free, has, formula_keys(own, spec.by), spec)
        return Split(names=names, mode="group")
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


def _hold_out_formulas(
    names: np.ndarray, free: np.ndarray, has: np.ndarray, keys: tuple[list[str], np.ndarray], spec: SplitSpec
) -> None:
    """Mark whole compositions or prototypes."""
    texts = np.array(keys[0], dtype=object).astype(str)
    of_rows = texts[keys[1]] if len(free) else np.empty(0, dtype=str)
    test, left = _take(of_rows, has, has.sum(axis=0), spec.test, spec.seed, taken=set())
    if not test and spec.test > 0 and len(free):
        raise cannot_divide(spec.by, texts, np.bincount(keys[1]), MOST, spec)
    val, _ = _take(of_rows, has, left, spec.val, spec.seed, taken=test)
    names[free[np.isin(of_rows, list(test))]] = "test"
    names[free[np.isin(of_rows, list(val))]] = "val"


def _hold_out_content(
    names: np.ndarray, free: np.ndarray, groups: np.ndarray, has: np.ndarray, test: np.ndarray, spec: SplitSpec
) -> None:
    """Mark the test, and validation groups that it has no structure of."""
    if len(free) and test.all():
        raise everything_held_out(spec)
    names[free[test]] = "test"
    val, _ = _take(groups, has, has[~test].sum(axis=0), spec.val, spec.seed, taken=set(groups[test].tolist()))
    names[free[np.isin(groups, list(val))]] = "val"


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
