"""Which head of a model answers for a structure, and what the user should know about that."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from lam.errors import LamError, LamWarning

if TYPE_CHECKING:
    from lam.data.structure import Structure
    from lam.model.potential import Potential

_LOG = logging.getLogger(__name__)


class HeadChoice:
    """Chooses heads, and warns, once for each reason, where a structure is not what the head was trained on.

    Args:
        model: the potential.
        head: head to use; ``None`` lets the model choose for each structure.

    Raises:
        LamError: if there is no such head.
    """

    def __init__(self, model: Potential, head: str | None) -> None:
        self._model, self._head = model, head
        self._index = None if head is None else model.head_index(head)
        # Dynamics ask the same at every step, and large models have many heads.
        self._covered = model.elements()
        self._chosen: dict[tuple[frozenset[int], bool], int] = {}
        self._told: set[tuple[str, str]] = set()

    def __call__(self, structure: Structure) -> int:
        """Return the index of the head for ``structure``: the one asked for, or the model's choice.

        Raises:
            LamError: if no head covers an element, or (where none was asked for) no single head covers all.
        """
        wanted = frozenset(np.unique(structure.numbers).tolist())
        nowhere = sorted(wanted - self._covered)
        if nowhere:
            names = ", ".join(f"{chemical_symbols[number]} (Z = {number})" for number in nowhere)
            raise LamError(
                f"{structure.where} contains {names}, which no head of this model covers: "
                "fine-tune it on data with that element."
            )
        if self._index is None:
            index = self._models_choice(structure, wanted)
        else:
            index = self._index
            self._warn_uncovered(structure, wanted)
        self._warn_of_charge_and_spin(structure, index)
        return index

    def _models_choice(self, structure: Structure, wanted: frozenset[int]) -> int:
        kind = (wanted, bool(structure.pbc.any()))
        if kind not in self._chosen:
            index = self._chosen[kind] = self._model.choose_head(wanted, structure.pbc)
            if self._first_time("head", self._model.head_names[index]):
                head = self._model.heads[index]
                _LOG.info("no head was named: using '%s' (%s)", head.name, head.level_of_theory)
        return self._chosen[kind]

    def _warn_uncovered(self, structure: Structure, wanted: frozenset[int]) -> None:
        for number in sorted(wanted - self._model.elements(self._head)):
            symbol = chemical_symbols[number]
            if self._first_time("element", symbol):
                heads = [name for name in self._model.head_names if number in self._model.elements(name)][:5]
                warnings.warn(
                    f"{structure.where}: the data of the head '{self._head}' has no {symbol}; what the model knows "
                    f"of it comes from {', '.join(heads)}, and its reference energy is missing.",
                    LamWarning,
                    stacklevel=2,
                )

    def _warn_of_charge_and_spin(self, structure: Structure, index: int) -> None:
        info = self._model.heads[index]
        for kind, value, neutral, trained in (
            ("total charge", structure.total_charge, 0.0, info.charges),
            ("spin multiplicity", structure.spin_multiplicity, 1.0, info.spin_multiplicities),
        ):
            used = neutral if value is None else float(value)
            known = trained or [neutral]  # a head whose data states nothing learned neutral singlets
            if used in known or not self._first_time(kind, f"{info.name} {used:g}"):
                continue
            stated = f"{used:g}" if value is not None else f"not stated, taken as {used:g}"
            warnings.warn(
                f"{structure.where}: the {kind} is {stated}, but the head '{info.name}' was trained on "
                f"{', '.join(f'{number:g}' for number in known)} only.",
                LamWarning,
                stacklevel=2,
            )

    def _first_time(self, kind: str, text: str) -> bool:
        """Is this the first time that something is to be said? (dynamics would repeat it at every step)"""
        if (kind, text) in self._told:
            return False
        self._told.add((kind, text))
        return True
