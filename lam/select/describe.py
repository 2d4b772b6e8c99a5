"""Read a pool once and keep what choosing needs of each structure: a key, its size, and what the model makes of it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from lam.data.references import WIDTH
from lam.errors import LamError, LamWarning
from lam.select.farthest import Environments, thinned
from lam.select.features import Featurizer, batches

if TYPE_CHECKING:
    from lam.data.structure import Structure
    from lam.select.pool import Source

ENVIRONMENTS = 8
"""Atoms of a structure that are kept, the most different ones: at least one of each element."""
DIRECTIONS = 4
"""Random displacements along which forces are looked at."""
DIGITS = 1e5
"""Positions and cells are compared to a hundred-thousandth of an Angstrom."""
_LARGEST = 6e4  # what half precision can hold
Seen = Callable[[int], None]


@dataclass
class Described:
    """What is kept of the structures of a pool."""

    keys: np.ndarray
    """A number made from structure and seed, (N,) uint64: equal ones are the same structure."""
    n_atoms: np.ndarray
    """(N,) int32."""
    source: np.ndarray
    """Which data set each is of, (N,) int16."""
    with_element: np.ndarray
    """Number of structures with each element, (119,) int64."""
    environments: Environments = field(default_factory=Environments)
    """For coverage and diversity: the most different atoms of each structure."""
    responses: np.ndarray | None = None
    """For uncertainty: derivatives of the features along displacements, (N, K, D) float16."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def symbols(self) -> list[str]:
        """The elements."""
        return [chemical_symbols[z] for z in np.flatnonzero(self.with_element)]


def describe(
    sources: Sequence[Source],
    by: str,
    featurizer: Featurizer | None,
    *,
    seed: int,
    batch_atoms: int,
    seen: Seen | None = None,
) -> Described:
    """Read all structures of a pool, once.

    Args:
        sources: the pool; sizes of files are noted on the way.
        by: "coverage", "diversity", "uncertainty" or "random".
        featurizer: the model; not needed for "random".
        seed: of keys and displacements. Both depend on it and the structure alone, not on its place in the pool.
        batch_atoms: atoms that go through the model together.
        seen: called with the number of structures so far.

    Raises:
        LamError: if a structure cannot be read, or what the model makes of it is not finite.
    """
    result = Described(np.empty(0), np.empty(0), np.empty(0), np.zeros(WIDTH, dtype=np.int64))
    columns: dict[str, list[Any]] = {"keys": [], "n_atoms": [], "source": [], "responses": []}
    count = 0
    for number, source in enumerate(sources):
        before = count
        for members in batches(source.members(), batch_atoms, lambda member: len(member.structure)):
            structures = [member.structure for member in members]
            keys = np.array([key_of(structure, seed) for structure in structures], dtype=np.uint64)
            if by in ("coverage", "diversity"):
                _add_environments(result.environments, structures, featurizer)
            elif by == "uncertainty":
                columns["responses"].append(_responses(structures, keys, featurizer))
            columns["keys"].append(keys)
            columns["n_atoms"].append(np.array([len(structure) for structure in structures], dtype=np.int32))
            columns["source"].append(np.full(len(structures), number, dtype=np.int16))
            for structure in structures:
                result.with_element[np.unique(structure.numbers)] += 1
            count += len(structures)
            if seen is not None:
                seen(count)
        if source.size is None:
            source.size = count - before
    for name, parts in columns.items():
        if parts:
            setattr(result, name, np.concatenate(parts))
            parts.clear()
    if featurizer is not None:
        _warn_of_strangers(result, featurizer)
    return result


def key_of(structure: Structure, seed: int) -> int:
    """Return a number made from atoms, cell and state of a structure, and from a seed."""
    digest = hashlib.blake2b(digest_size=8, salt=seed.to_bytes(16, "little", signed=True))
    digest.update(structure.numbers.astype("<i2").tobytes())
    for values in (structure.positions, structure.cell if structure.pbc.any() else np.zeros((3, 3))):
        digest.update((np.round(values * DIGITS) + 0.0).astype("<i8").tobytes())
    digest.update(structure.pbc.tobytes())
    state = (structure.total_charge or 0.0, structure.spin_multiplicity or 1.0)
    digest.update(np.array(state, dtype="<f8").tobytes())
    return int.from_bytes(digest.digest(), "little")


def _add_environments(environments: Environments, structures: Sequence[Structure], featurizer: Featurizer) -> None:
    points = _half(featurizer.atoms(structures), structures)
    sizes, elements, kept, start = [], [], [], 0
    for structure in structures:
        own = thinned(structure.numbers, points[start : start + len(structure)].astype(np.float32), ENVIRONMENTS)
        sizes.append(len(own))
        elements.append(structure.numbers[own])
        kept.append(points[start + own])
        start += len(structure)
    environments.append(np.array(sizes), np.concatenate(elements), np.concatenate(kept))


def _responses(structures: Sequence[Structure], keys: np.ndarray, featurizer: Featurizer) -> np.ndarray:
    directions = [
        np.random.default_rng(int(key)).normal(size=(DIRECTIONS, len(structure), 3))
        for key, structure in zip(keys, structures, strict=True)
    ]
    return _half(featurizer.responses(structures, directions), structures)


def _half(values: np.ndarray, structures: Sequence[Structure]) -> np.ndarray:
    """Return values in half precision, which is enough to compare them."""
    if not np.isfinite(values).all():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        owner = np.arange(len(structures))
        if len(values) != len(structures):
            owner = np.repeat(owner, [len(structure) for structure in structures])
        where = structures[int(owner[np.flatnonzero(~finite)[0]])].where
        raise LamError(f"The model's features of {where} are not finite numbers; look at it, or take it out.")
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)


def _warn_of_strangers(described: Described, featurizer: Featurizer) -> None:
    unknown = [z for z in np.flatnonzero(described.with_element) if z not in featurizer.model.elements()]
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        warnings.warn(
            f"The model was never trained on {names}: what it makes of their environments means little. Choose "
            "by diversity, which takes new elements first.",
            LamWarning,
            stacklevel=3,
        )
