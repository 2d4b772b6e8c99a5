"""What is said of a selection: how far it covers the pool as it grows, and what it is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from lam.select.describe import DIRECTIONS, ENVIRONMENTS

if TYPE_CHECKING:
    from lam.select.describe import Described
    from lam.select.features import Featurizer
    from lam.select.pool import Member, Source
    from lam.select.run import Settings

MEANING = {
    "coverage": "distance of the pool's atoms from what was chosen, rms, eV",
    "diversity": "farthest atom that was not chosen, eV",
    "uncertainty": "most that one more structure would tell, nats",
    "random": "",
}
"""What the curve shows, by method."""
KEPT = {
    "coverage": f"{ENVIRONMENTS} atoms",
    "diversity": f"{ENVIRONMENTS} atoms",
    "uncertainty": f"{DIRECTIONS} directions",
}
"""What is kept of each structure, by method."""


def make_report(
    sources: Sequence[Source],
    pool: Described,
    had: Described | None,
    rows: np.ndarray,
    order: np.ndarray,
    members: Sequence[Member],
    worth: np.ndarray,
    curve: np.ndarray,
    settings: Settings,
    featurizer: Featurizer | None,
) -> dict[str, Any]:
    """Return the report as plain values.

    Args:
        sources: the pool.
        pool: what is kept of it.
        had: what is kept of the structures that one had.
        rows: those that could be chosen.
        order: those that were, in this order, (B,).
        members: their structures.
        worth: what each was worth when it was chosen, (B,); infinite while elements were missing, NaN where nothing
            was looked at.
        curve: what is left after each, (B,); likewise.
        settings: as asked for.
        featurizer: the model that was used.
    """
    return {
        "by": settings.by,
        "model": None if featurizer is None else str(_name(settings.model)),
        "head": None if featurizer is None else featurizer.head,
        "seed": settings.seed,
        "budget": len(order),
        "pool": {
            "structures": len(pool),
            "different": len(np.unique(pool.keys)),
            "could_be_chosen": len(rows),
            "atoms": int(pool.n_atoms.sum()),
        },
        "already": 0 if had is None else len(had),
        "kept_of_each": KEPT.get(settings.by, "key"),
        "chosen_atoms": int(pool.n_atoms[order].sum()),
        "datasets": _datasets(sources, pool, order),
        "elements": _elements(pool, members),
        "curve": {"number": list(range(1, len(order) + 1)), "value": _plain(curve), "meaning": MEANING[settings.by]},
        "chosen": [
            _entry(rank, sources[int(pool.source[row])].name, member, value)
            for rank, (row, member, value) in enumerate(zip(order, members, _plain(worth), strict=True), start=1)
        ],
    }


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _name(model: Any) -> str:
    known = getattr(getattr(model, "metadata", None), "name", None)
    return str(model) if isinstance(model, str) or hasattr(model, "__fspath__") else known or "model in memory"


def _datasets(sources: Sequence[Source], pool: Described, order: np.ndarray) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for number, source in enumerate(sources):
        entry = table.setdefault(source.name, {"pool": 0, "chosen": 0})
        entry["pool"] += int((pool.source == number).sum())
        entry["chosen"] += int((pool.source[order] == number).sum())
    return table


def _elements(pool: Described, members: Sequence[Member]) -> dict[str, dict[str, int]]:
    chosen: Counter[int] = Counter()
    for member in members:
        chosen.update(np.unique(member.structure.numbers).tolist())
    found = np.flatnonzero(pool.with_element).tolist()
    return {chemical_symbols[z]: {"pool": int(pool.with_element[z]), "chosen": chosen[z]} for z in found}


def _entry(rank: int, dataset: str, member: Member, value: float | None) -> dict[str, Any]:
    structure = member.structure
    return {
        "rank": rank,
        "dataset": dataset,
        "source": structure.source,
        "group": structure.group,
        "formula": structure.formula,
        "atoms": len(structure),
        "total_charge": structure.total_charge,
        "spin_multiplicity": structure.spin_multiplicity,
        "worth": value,
    }
