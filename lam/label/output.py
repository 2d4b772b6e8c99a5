"""Write what came of a run: the labels, what is known about them, and the failures."""

from __future__ import annotations

import gzip
import io
import json
import lzma
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import yaml

from lam.atomic_write import atomic_file
from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.data.readers import COMPRESSIONS, XYZ_SUFFIXES, stem
from lam.data.shards import ShardWriter
from lam.data.structure import Structure
from lam.errors import LamError
from lam.label.engines import Labels
from lam.label.folder import Done, Inputs
from lam.label.journal import read_record

MAX_FORCE = "max force"
"""Kind of failure of a label with larger forces than allowed."""


@dataclass(frozen=True)
class About:
    """What is stated about labels."""

    engine: str
    version: str
    settings: dict[str, Any]
    level_of_theory: str
    licence: str

    def attributes(self) -> dict[str, str]:
        """Return the attributes of a shard, or the metadata of a data set."""
        return {
            "level_of_theory": self.level_of_theory,
            "licence": self.licence,
            "source": f"lam label, {self.version}",
            "notes": f"engine {self.engine}, settings {json.dumps(self.settings, sort_keys=True)}",
        }


def checked_output(out: str | Path, files: Sequence[str | Path]) -> Path:
    """Return the path of the output.

    Raises:
        LamError: if its ending is not known, or it is an input or a folder.
    """
    out = Path(out)
    suffixes = [suffix.lower() for suffix in out.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
        known = XYZ_SUFFIXES
    else:
        known = (*XYZ_SUFFIXES, ".h5")
    if not suffixes or suffixes[-1] not in known:
        raise LamError(f"'{out}' must end in .extxyz, .extxyz.xz (or .gz, .zst), or .h5 for a shard.")
    if out.is_dir():
        raise LamError(f"The output '{out}' is a folder: name a file.")
    if any(out.resolve() == Path(file).resolve() for file in files):
        raise LamError(f"The output '{out}' is also an input: choose another name.")
    return out


def write_labels(
    out: Path, inputs: Inputs, done: dict[str, Done], about: About, max_force: float | None
) -> tuple[int, dict[str, str]]:
    """Write the labelled structures in the order of the input, whole or not at all.

    Returns:
        How many were written, and the reason by key for those whose forces are too large.
    """
    too_large: dict[str, str] = {}
    count = 0
    structures = _labelled(inputs, done, max_force, too_large)
    first = next(structures, None)
    if first is None:
        out.unlink(missing_ok=True)  # no output of an earlier, luckier run may pass for this one's
        return 0, too_large
    with _writer(out, about) as write:
        write(first)
        count = 1
        for structure in structures:
            write(structure)
            count += 1
    _write_metadata(out, about)
    return count, too_large


def write_failures(
    out: Path, inputs: Inputs, done: dict[str, Done], too_large: dict[str, str]
) -> tuple[list[str], Path | None]:
    """Write one JSON line for each structure without a label: where it is from, kind, reason.

    Returns:
        The kinds of all failures, and the file, or ``None`` if there are none.
    """
    path = out.with_name(f"{_name(out)}.failures.jsonl")
    kinds: list[str] = []
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for line in _failures(inputs, done, too_large):
            kinds.append(line["kind"])
            file.write(json.dumps(line) + "\n")
    if not kinds:
        path.unlink()
        return kinds, None
    return kinds, path


def _failures(inputs: Inputs, done: dict[str, Done], too_large: dict[str, str]) -> Iterator[dict[str, Any]]:
    for source, reason in inputs.invalid:
        yield {"source": source, "kind": "invalid", "reason": reason}
    sizes = inputs.shard.n_atoms
    for row, key in enumerate(inputs.keys):
        entry = done.get(key)
        if entry is None or not (entry.kind or key in too_large):
            continue
        reason = too_large.get(key) or read_record(entry.place)["reason"]
        yield {
            "source": inputs.shard.source_of(row),
            "formula": inputs.shard[row].formula,
            "atoms": int(sizes[row]),
            "kind": entry.kind or MAX_FORCE,
            "reason": reason,
            "seconds": entry.seconds,
        }


def _labelled(
    inputs: Inputs, done: dict[str, Done], max_force: float | None, too_large: dict[str, str]
) -> Iterator[Structure]:
    for row, key in enumerate(inputs.keys):
        entry = done.get(key)
        if entry is None or entry.kind:
            continue
        labels = Labels.from_dict(read_record(entry.place)["labels"])
        largest = float(np.linalg.norm(labels.forces, axis=1).max())
        if max_force is not None and largest > max_force:
            too_large[key] = f"a force of {largest:.1f} eV/A, above the allowed {max_force:g}"
            continue
        structure = inputs.shard[row]
        charge, multiplicity = labels.total_charge, labels.spin_multiplicity
        yield replace(
            structure,
            energy=labels.energy,
            forces=labels.forces,
            stress=labels.stress,
            total_charge=structure.total_charge if charge is None else charge,
            spin_multiplicity=structure.spin_multiplicity if multiplicity is None else multiplicity,
        )


@contextmanager
def _writer(out: Path, about: About) -> Iterator[Any]:
    """Yield a function that writes one structure to ``out``, which appears when all are written."""
    if out.suffix.lower() == ".h5":
        attributes = about.attributes() | {"engine": about.engine, "engine_version": about.version}
        attributes["engine_settings"] = json.dumps(about.settings, sort_keys=True)
        with ShardWriter(out, **attributes) as writer:
            yield writer.append
        return
    from ase.io.extxyz import write_xyz

    with atomic_file(out) as temporary, _open_text(temporary) as file:

        def write(structure: Structure) -> None:
            atoms = structure.to_atoms(prefix="REF_")
            atoms.info["level_of_theory"] = about.level_of_theory
            atoms.info["source"] = structure.source
            write_xyz(file, atoms)

        yield write


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    with ExitStack() as stack:
        suffix = path.suffix.lower()
        if suffix == ".xz":
            yield stack.enter_context(lzma.open(path, "wt", encoding="utf-8"))
        elif suffix == ".gz":
            yield stack.enter_context(gzip.open(path, "wt", encoding="utf-8"))
        elif suffix == ".zst":
            raw = stack.enter_context(open(path, "wb"))
            compressed = _zstandard(path).ZstdCompressor(level=10).stream_writer(raw)
            yield stack.enter_context(io.TextIOWrapper(compressed, encoding="utf-8"))
        else:
            yield stack.enter_context(open(path, "w", encoding="utf-8"))


def _zstandard(path: Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise LamError(
            f"Writing '{path}' needs the package zstandard; install it with: pip install 'lam[zstd]'."
        ) from None
    return zstandard


def _write_metadata(out: Path, about: About) -> None:
    """Write what `lam data convert` or a training reads beside the labels."""
    name = _name(out)
    known = about.attributes()
    if out.suffix.lower() == ".h5":
        known.pop("notes")
        save_manifest(
            Manifest(datasets=[DatasetSpec(name=name, path=out.resolve(), **known)]), out.with_name(f"{name}.yaml")
        )
        return
    text = yaml.safe_dump({"datasets": {name: known}}, sort_keys=False, allow_unicode=True, width=110)
    with atomic_file(out.with_name(f"{name}.metadata.yaml")) as temporary:
        temporary.write_text("# For: lam data convert --metadata; written by `lam label`\n" + text, encoding="utf-8")


def _name(out: Path) -> str:
    """Return the name of the data set, as `lam data convert` would give it."""
    return stem(out).replace(" ", "_").replace(".", "-")
