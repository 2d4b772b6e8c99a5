"""What is in a data set: sizes, elements, labels, splits. Used by `lam data info`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from lam.data.convert import MANIFEST, find_inputs
from lam.data.manifest import DatasetSpec, load_manifest
from lam.data.readers import read_structures, stem
from lam.data.references import WIDTH, composition_matrix
from lam.data.shards import HAS_CHARGE, HAS_ENERGY, HAS_FORCES, HAS_SPIN, HAS_STRESS, is_shard, open_shard
from lam.data.splits import assign_splits
from lam.data.stream_splits import split_shard
from lam.data.structure import Structure
from lam.errors import LamError

_LABELS = {
    "energy": HAS_ENERGY,
    "forces": HAS_FORCES,
    "stress": HAS_STRESS,
    "total_charge": HAS_CHARGE,
    "spin_multiplicity": HAS_SPIN,
}


@dataclass(frozen=True)
class DataInput:
    """One data set named on the command line: a shard (or a folder of them), perhaps of a manifest, or a file."""

    name: str
    path: Path
    spec: DatasetSpec | None = None

    @property
    def is_shard(self) -> bool:
        """Is it a shard or a folder of shards, rather than a structure file?"""
        return is_shard(self.path)

    def structures(self) -> Iterable[Structure]:
        """Return the structures; they are read as they are asked for."""
        return open_shard(self.path) if self.is_shard else read_structures(self.path)


@dataclass(frozen=True)
class Summary:
    """Contents of one data set; counts are numbers of structures unless named otherwise."""

    name: str
    path: str
    structures: int
    atoms: int
    elements: dict[str, int]
    labels: dict[str, int]
    periodic: int
    groups: int
    energy_per_atom: tuple[float, float] | None
    """Least and largest, eV; None without energies."""
    splits: dict[str, int]
    split_mode: str
    about: dict[str, Any] = field(default_factory=dict)
    """Level of theory, licence, source and whatever else the shard states."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def open_inputs(paths: Sequence[str | Path]) -> Iterator[DataInput]:
    """Yield the data sets behind paths: manifests (or their folders), shards (or folders of them that are one data
    set), structure files and folders of them.

    Raises:
        LamError: if a path is missing or holds nothing of the kind.
    """
    for path in map(Path, paths):
        if not path.exists():
            raise LamError(f"There is no file or folder '{path}'.")
        if path.suffix.lower() in (".yaml", ".yml") or (path / MANIFEST).is_file():
            for spec in load_manifest(path).datasets:
                yield DataInput(spec.name, spec.path, spec)
        elif path.is_dir() and not is_shard(path):
            for name, file in find_inputs([path]).items():
                yield DataInput(name, file)
        else:
            yield DataInput(stem(path), path)


def describe(data: DataInput) -> Summary:
    """Count what a data set holds.

    Raises:
        LamError: if it cannot be read.
    """
    counts, about = _Counts(), {}
    if data.is_shard:
        shard = open_shard(data.path)
        for piece in shard.pieces():
            counts.add(piece.n_atoms, piece.compositions(), piece.masks, piece.periodic, piece.energies)
        split, groups = split_shard(shard, data.spec.split if data.spec else None), len(shard.group_names)
        about = {k: v for k, v in shard.attributes.items() if k not in ("schema", "units", "pair_radii")}
    else:
        structures = list(read_structures(data.path))
        counts.add(*_columns(structures))
        names = [structure.group for structure in structures]
        split = assign_splits(names, None, composition_matrix([structure.numbers for structure in structures]))
        groups = len(set(names))
    if data.spec is not None:
        about |= data.spec.model_dump(include={"level_of_theory", "licence", "source", "weight"})
    return Summary(
        name=data.name,
        path=str(data.path),
        structures=counts.structures,
        atoms=counts.atoms,
        elements={chemical_symbols[z]: int(counts.elements[z]) for z in np.flatnonzero(counts.elements)},
        labels=counts.labels,
        periodic=counts.periodic,
        groups=groups,
        energy_per_atom=(counts.lowest, counts.highest) if counts.labels["energy"] else None,
        splits=split.counts(),
        split_mode=split.mode,
        about=about,
    )


class _Counts:
    """Adds up what is in a data set, piece by piece."""

    def __init__(self) -> None:
        self.structures = self.atoms = self.periodic = 0
        self.elements = np.zeros(WIDTH, dtype=np.int64)
        self.labels = dict.fromkeys(_LABELS, 0)
        self.lowest, self.highest = np.inf, -np.inf

    def add(
        self,
        n_atoms: np.ndarray,
        compositions: np.ndarray,
        masks: np.ndarray,
        periodic: np.ndarray,
        energies: np.ndarray,
    ) -> None:
        self.structures += len(n_atoms)
        self.atoms += int(n_atoms.sum())
        self.periodic += int(periodic.sum())
        self.elements += (compositions > 0).sum(axis=0)
        for name, bit in _LABELS.items():
            self.labels[name] += int(((masks & bit) > 0).sum())
        labelled = (masks & HAS_ENERGY) > 0
        if labelled.any():
            per_atom = energies[labelled] / n_atoms[labelled]
            self.lowest = min(self.lowest, float(per_atom.min()))
            self.highest = max(self.highest, float(per_atom.max()))


def _columns(structures: list[Structure]) -> tuple[np.ndarray, ...]:
    masks = [
        sum(bit for name, bit in _LABELS.items() if getattr(structure, name) is not None) for structure in structures
    ]
    return (
        np.array([len(structure) for structure in structures]),
        composition_matrix([structure.numbers for structure in structures]),
        np.array(masks),
        np.array([structure.pbc.any() for structure in structures]),
        np.array([structure.energy or 0.0 for structure in structures]),
    )
