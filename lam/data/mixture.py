"""How data sets are mixed: the share of each, in stages of a training if wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lam.errors import LamError

PIECE = 16384
"""Structures of a piece of the sequence, about; the last of a stage is shorter."""


@dataclass(frozen=True)
class Stage:
    """A part of a training with a mixture of its own."""

    until: float
    """Where it ends, as a fraction of the whole training."""
    weights: np.ndarray
    """Factor of each data set's share, (D,)."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the sequence: which part of each data set's stream of shuffled epochs it holds."""

    begin: np.ndarray
    """Place in each stream, (D,) int64."""
    end: np.ndarray
    """Place after the last, (D,) int64."""

    def __len__(self) -> int:
        return int((self.end - self.begin).sum())


class MixturePlan:
    """Shares of the data sets through the stages; what is kept with a training's state, so that it cannot change.

    Args:
        probabilities: of each data set in each stage, one (D,) array a stage.
        lengths: structures drawn in each stage but the last, which goes on for ever.
    """

    def __init__(self, probabilities: Sequence[np.ndarray], lengths: Sequence[int]) -> None:
        self.probabilities = [np.asarray(p, dtype=np.float64) for p in probabilities]
        self.lengths = [int(length) for length in lengths]

    def state(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return {"probabilities": [p.tolist() for p in self.probabilities], "lengths": self.lengths}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> MixturePlan:
        """Return the plan that :meth:`state` described."""
        return cls(state["probabilities"], state["lengths"])

    def piece(self, number: int) -> Piece:
        """Return the ``number``-th piece: a function of the plan alone, without looking at the pieces before."""
        base = np.zeros(len(self.probabilities[0]), dtype=np.int64)
        for probabilities, length in zip(self.probabilities, [*self.lengths, math.inf], strict=True):
            count = math.inf if math.isinf(length) else math.ceil(length / PIECE)
            if number < count:
                first, last = PIECE * number, min(PIECE * (number + 1), length)
                return Piece(base + _places(probabilities, first), base + _places(probabilities, last))
            number -= int(count)
            base = base + _places(probabilities, length)
        raise AssertionError("the last stage has no end")

    def locate(self, position: int) -> tuple[int, int]:
        """Return ``(piece, place in it)`` of a position in the sequence of structures."""
        number = 0
        while position >= (length := len(self.piece(number))):
            position -= length
            number += 1
        return number, position


def plan_mixture(
    sizes: np.ndarray,
    wished: np.ndarray,
    stages: Sequence[Stage],
    draws: int | None,
    limit: np.ndarray | None = None,
) -> MixturePlan:
    """Return the plan of a training.

    Args:
        sizes: structures of each data set, (D,).
        wished: wished relative share of each, (D,); data sets without structures get none.
        stages: parts of the training with factors of their own; none: one mixture throughout.
        draws: structures that the whole training draws, about; needed with more than one stage.
        limit: largest probability of each data set, (D,).

    Raises:
        LamError: if a stage leaves no data, or the stages do not rise to 1.
    """
    if not stages:
        stages = [Stage(1.0, np.ones(len(sizes)))]
    ends = [stage.until for stage in stages]
    if sorted(set(ends)) != ends or ends[0] <= 0 or not math.isclose(ends[-1], 1.0):
        raise LamError(f"The stages of the curriculum end at {ends}: 'until' must rise from above 0 to 1.")
    probabilities = []
    for stage in stages:
        shares = np.where(sizes > 0, wished * stage.weights, 0.0)
        if not shares.sum() > 0:
            raise LamError(f"The stage of the curriculum until {stage.until} gives every data set the weight 0.")
        probabilities.append(_limited(shares, sizes, limit))
    borders = [round((draws or 0) * end) for end in ends[:-1]]
    return MixturePlan(probabilities, np.diff([0, *borders]).tolist())


def _places(probabilities: np.ndarray, position: float) -> np.ndarray:
    """Return how far each data set's stream has come when a stage has come to ``position``."""
    return np.floor(probabilities * position).astype(np.int64)


def _limited(shares: np.ndarray, sizes: np.ndarray, limit: np.ndarray | None) -> np.ndarray:
    """Lower shares to their limits; the others take over what is freed."""
    probabilities = shares / shares.sum()
    if limit is None:
        return probabilities
    capped = np.zeros(len(shares), dtype=bool)
    while (probabilities > limit * (1 + 1e-12)).any():
        capped |= probabilities > limit
        free = shares * ~capped
        if not free.sum() or limit[capped].sum() >= 1:
            return sizes / sizes.sum()  # the limit cannot be kept: everything equally often
        probabilities = np.where(capped, limit, free / free.sum() * (1 - limit[capped].sum()))
    return probabilities
