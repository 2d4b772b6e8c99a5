"""What structures are held out by when it is not their group: reduced formula, stoichiometry, elements, size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from lam.errors import LamError

if TYPE_CHECKING:
    from lam.data.splits import SplitSpec

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def formula_keys(compositions: np.ndarray, by: str) -> tuple[list[str], np.ndarray]:
    """Return the keys that occur, and which of them each structure has, (S,) int64.

    The key is the reduced formula ("composition": ``H2O`` also for two waters), or its stoichiometry without the
    names of the elements ("prototype": ``ABC3`` for every perovskite). Two structures of one structure type have
    the same stoichiometry, whatever their cell, strain or displacements; space groups are not looked at, because
    rattled and hot structures have lost theirs, and a tolerance would put frames of one trajectory on both sides.

    Args:
        compositions: (S, 119) atoms of each element.
        by: "composition" or "prototype".
    """
    rows = np.ascontiguousarray(compositions, dtype=np.int64)
    rows = rows // np.maximum(np.gcd.reduce(rows, axis=1), 1)[:, None]
    # Whole rows are compared as bytes: much faster than sorting by 119 columns.
    _, first, inverse = np.unique(
        rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel(),
        return_index=True,
        return_inverse=True,
    )
    texts = [_anonymous(rows[row]) if by == "prototype" else _formula(rows[row]) for row in first]
    names = sorted(set(texts))
    place = {name: number for number, name in enumerate(names)}
    return names, np.array([place[text] for text in texts], dtype=np.int64)[inverse.ravel()]


def held_out(compositions: np.ndarray, spec: SplitSpec) -> np.ndarray:
    """Return which structures a split by element or size holds out, (S,) bool.

    Args:
        compositions: (S, 119) atoms of each element.
        spec: with ``by`` "element" or "size".
    """
    if spec.by == "size":
        assert spec.max_atoms is not None  # the specification is validated
        return np.asarray(compositions).sum(axis=1) > spec.max_atoms
    return (np.asarray(compositions)[:, [atomic_numbers[symbol] for symbol in spec.elements]] > 0).any(axis=1)


def cannot_divide(by: str, names: np.ndarray, sizes: np.ndarray, most: float, spec: SplitSpec) -> LamError:
    """Return the error for keys too few or too large to hold out whole.

    Args:
        by: "composition" or "prototype".
        names: (K,) keys.
        sizes: (K,) structures of each.
        most: times the wished fraction that the test may take.
        spec: the split.
    """
    largest = int(np.argmax(sizes)) if len(sizes) else 0
    what = f"'{names[largest]}' with {sizes[largest] / sizes.sum():.0%} of the structures" if len(sizes) else "none"
    return LamError(
        f"A test of {spec.test:.0%} cannot be made of whole {by}s: there are {len(names)}, the largest is {what}, the "
        f"test may take at most {most * spec.test:.0%}, and every element must also be trained on. Split by group, or "
        "ask for another fraction."
    )


def everything_held_out(spec: SplitSpec) -> LamError:
    """Return the error for a split by element or size that leaves nothing to train on."""
    what = (
        f"more than {spec.max_atoms} atoms" if spec.by == "size" else f"one of the elements {', '.join(spec.elements)}"
    )
    return LamError(f"Every structure has {what}: nothing is left to train on. Hold out less.")


def _formula(counts: np.ndarray) -> str:
    """Return a formula in Hill order: C and H first if there is C, the others by the alphabet."""
    symbols = {chemical_symbols[z]: int(counts[z]) for z in np.flatnonzero(counts)}
    first = ("C", "H") if "C" in symbols else ()
    order = [s for s in first if s in symbols] + sorted(s for s in symbols if s not in first)
    return "".join(f"{symbol}{symbols[symbol] if symbols[symbol] > 1 else ''}" for symbol in order)


def _anonymous(counts: np.ndarray) -> str:
    """Return the stoichiometry with letters for the elements, the rarest first: ``AB2``, ``ABC3``."""
    amounts = np.sort(counts[counts > 0]).tolist()
    if len(amounts) > len(_LETTERS):
        return ":".join(map(str, amounts))
    return "".join(f"{letter}{n if n > 1 else ''}" for letter, n in zip(_LETTERS, amounts, strict=False))
