"""Write a selection: the structures in the order in which they were chosen, and a report beside them."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from lam.atomic_write import atomic_file
from lam.data.labels import ENERGY_KEYS, FORCE_KEYS, STRESS_KEYS, VIRIAL_KEYS
from lam.data.readers import XYZ_SUFFIXES
from lam.data.shards import ShardWriter
from lam.data.structure import ISOLATED_ATOM
from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

    from lam.select.pool import Member

COMPRESSED = {".xz": lzma.open, ".gz": gzip.open}
_LABELS = frozenset((*ENERGY_KEYS, *FORCE_KEYS, *STRESS_KEYS, *VIRIAL_KEYS))
_STATE = frozenset(("charge", "total_charge", "spin", "spin_multiplicity", "total_spin"))
"""Names of what :meth:`~lam.data.structure.Structure.to_atoms` writes under one name."""


def outputs(out: str | Path) -> dict[str, Path]:
    """Return where structures, report and plot go.

    Raises:
        LamError: if the ending of ``out`` is not known, or it is a folder.
    """
    out = Path(out)
    name = out.name
    if out.suffix.lower() in COMPRESSED:
        name = out.stem
    ending = Path(name).suffix.lower()
    if ending not in XYZ_SUFFIXES and (ending != ".h5" or name != out.name):
        raise LamError(f"'{out}' must end in .extxyz, .extxyz.xz, .extxyz.gz, or .h5 for a shard.")
    if out.is_dir():
        raise LamError(f"The output '{out}' is a folder: name a file.")
    stem = Path(name).stem
    return {
        "structures": out,
        "report": out.with_name(f"{stem}.selection.json"),
        "plot": out.with_name(f"{stem}.selection.png"),
    }


def write_structures(out: Path, members: Iterable[Member], about: Sequence[dict[str, str]]) -> None:
    """Write structures to extended XYZ or a shard, whole or not at all.

    Labels become REF_energy, REF_forces, REF_stress; charge, multiplicity, group and whatever else a file says of its
    atoms are kept, and ``source`` names file and frame.

    Args:
        out: the file.
        members: what to write, in order.
        about: what is stated of the data sets they are from; stored with a shard where all say the same.
    """
    with _writer(out, about) as write:
        for member in members:
            write(member)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report as JSON."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _writer(out: Path, about: Sequence[dict[str, str]]) -> Iterator[Callable[[Member], None]]:
    if out.suffix.lower() == ".h5":
        keys = ("level_of_theory", "licence", "source")
        stated = {key: {each.get(key, "") for each in about} for key in keys}
        same = {key: values.pop() for key, values in stated.items() if len(values) == 1}
        with ShardWriter(out, **{key: value for key, value in same.items() if value}) as writer:
            yield lambda member: writer.append(member.structure)
        return
    from ase.io.extxyz import write_xyz

    with atomic_file(out) as temporary, _open_text(temporary, out.suffix.lower()) as file:
        yield lambda member: write_xyz(file, [_with_everything(member)], write_results=False)


def _open_text(path: Path, suffix: str) -> TextIO:
    opener = COMPRESSED.get(suffix, open)
    return opener(path, "wt", encoding="utf-8")


def _with_everything(member: Member) -> Atoms:
    """Return atoms with the labels as REF_..., and whatever else the file says of them."""
    structure, original = member.structure, member.atoms
    atoms = structure.to_atoms(prefix="REF_")
    if structure.group == ISOLATED_ATOM:
        atoms.info["config_type"] = ISOLATED_ATOM
    if original is not None:
        for key, value in original.info.items():
            if key not in _LABELS | _STATE and key not in atoms.info:
                atoms.info[key] = value
        for key, value in original.arrays.items():
            if key not in _LABELS and key not in atoms.arrays and len(np.shape(value)):
                atoms.arrays[key] = value
    if "source" in atoms.info and atoms.info["source"] != structure.source:
        atoms.info["original_source"] = atoms.info["source"]  # of the pool's file, stated by whoever wrote it
    atoms.info["source"] = structure.source
    return atoms
