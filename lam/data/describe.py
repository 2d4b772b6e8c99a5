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
from lam.data.references import composition_matrix
from lam.data.shards import HAS_CHARGE, HAS_ENERGY, HAS_FORCES, HAS_SPIN, HAS_STRESS, Shard
from lam.data.splits import assign_splits
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
    """One data set named on the command line: a shard, perhaps of a manifest, or a structure file."""

    name: str
    path: Path
    spec: DatasetSpec | None = None

    @property
    def is_shard(self) -> bool:
        """Is it a shard, rather than a structure file?"""
        return self.path.suffix.lower() in (".h5", ".hdf5")

    def structures(self) -> Iterable[Structure]:
        """Return the structures; they are read as they are asked for."""
        return Shard(self.path) if self.is_shard else read_structures(self.path)


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
    """Yield the data sets behind paths: manifests (or their folders), shards, structure files and folders of them.

    Raises:
        LamError: if a path is missing or holds nothing of the kind.
    """
    for path in map(Path, paths):
        if not path.exists():
            raise LamError(f"There is no file or folder '{path}'.")
        if path.suffix.lower() in (".yaml", ".yml") or (path / MANIFEST).is_file():
            for spec in load_manifest(path).datasets:
                yield DataInput(spec.name, spec.path, spec)
        elif path.is_dir():
            for name, file in find_inputs([path]).items():
                yield DataInput(name, file)
        else:
            yield DataInput(stem(path), path)


def describe(data: DataInput) -> Summary:
    """Count what a data set holds.

    Raises:
        LamError: if it cannot be read.
    """
    if data.is_shard:
        shard = Shard(data.path)
        columns = (shard.n_atoms, shard.compositions(), shard.masks, shard.periodic, shard.groups, shard.energies)
        about = {k: v for k, v in shard.attributes.items() if k not in ("schema", "units", "pair_radii")}
    else:
        columns = _columns(list(read_structures(data.path)))
        about = {}
    n_atoms, compositions, masks, periodic, groups, energies = columns
    if data.spec is not None:
        about |= data.spec.model_dump(include={"level_of_theory", "licence", "source", "weight"})
    labelled = (masks & HAS_ENERGY) > 0
    per_atom = energies[labelled] / n_atoms[labelled]
    split = assign_splits(groups, data.spec.split if data.spec else None, compositions)
    counts = (compositions > 0).sum(axis=0)
    return Summary(
        name=data.name,
        path=str(data.path),
        structures=len(n_atoms),
        atoms=int(n_atoms.sum()),
        elements={chemical_symbols[z]: int(counts[z]) for z in np.flatnonzero(counts)},
        labels={name: int(((masks & bit) > 0).sum()) for name, bit in _LABELS.items()},
        periodic=int(periodic.sum()),
        groups=len(set(groups.tolist())),
        energy_per_atom=(float(per_atom.min()), float(per_atom.max())) if len(per_atom) else None,
        splits=split.counts(),
        split_mode=split.mode,
        about=about,
    )


def _columns(structures: list[Structure]) -> tuple[np.ndarray, ...]:
    masks = [
        sum(bit for name, bit in _LABELS.items() if getattr(structure, name) is not None) for structure in structures
    ]
    return (
        np.array([len(structure) for structure in structures]),
        composition_matrix([structure.numbers for structure in structures]),
        np.array(masks),
        np.array([structure.pbc.any() for structure in structures]),
        np.array([structure.group for structure in structures], dtype=object),
        np.array([structure.energy or 0.0 for structure in structures]),
    )
