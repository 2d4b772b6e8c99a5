"""Turn structure files into shards and a manifest: several files at once, finished ones skipped."""

from __future__ import annotations

import hashlib
import multiprocessing
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from lam.config import Section
from lam.config.load import load_config
from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.data.readers import COMPRESSIONS, XYZ_SUFFIXES, read_structures, stem
from lam.data.shards import Shard, ShardWriter
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning, unknown_name

READABLE_IN_FOLDERS = (*XYZ_SUFFIXES, ".traj", ".db", ".cif", ".vasp", ".xml", ".json", ".out")
MANIFEST = "manifest.yaml"


class Metadata(Section):
    """What is known about one data set beyond its file."""

    level_of_theory: str = "not stated"
    """Functional, basis and code, as the source states them."""
    licence: str = "not stated"
    """Licence, as the source states it."""
    source: str = ""
    """Repository and commit, or paper."""
    notes: str = ""
    """What a user of the data should know."""
    total_charge: float | None = None
    """Charge (e) of the structures that do not state one."""
    spin_multiplicity: float | None = None
    """Multiplicity 2S+1 of the structures that do not state one."""
    weight: float = Field(1.0, gt=0)
    """Weight in the manifest."""


class MetadataTable(Section):
    """A YAML table: name of the data set -> what is known about it."""

    datasets: dict[str, Metadata]
    """By name: the file's name without its ending."""


@dataclass(frozen=True)
class Converted:
    """What came of one file."""

    name: str
    path: Path
    structures: int
    atoms: int
    skipped: bool
    """Was a finished shard of the same file found?"""
    warnings: list[str]


def find_inputs(paths: Sequence[str | Path]) -> dict[str, Path]:
    """Return the structure files by data-set name; folders are searched, not recursively.

    Raises:
        LamError: for a path that is not there, a folder without structure files, or two files of one name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise LamError(f"There is no file or folder '{path}'.")
        files = sorted(filter(_is_readable, path.iterdir())) if path.is_dir() else [path]
        if not files:
            raise LamError(f"The folder '{path}' holds no structure files (*.extxyz[.xz|.gz|.zst], *.traj, ...).")
        for file in files:
            name = stem(file).replace(" ", "_").replace(".", "-")
            if name in found:
                raise LamError(f"'{found[name]}' and '{file}' would both become '{name}'; rename one.")
            found[name] = file
    return found


def read_metadata(path: str | Path | None, names: Iterable[str] = ()) -> dict[str, Metadata]:
    """Read a metadata table; a name in it that is close to, but not, one of ``names`` is an error.

    Raises:
        LamError: if the file or a key in it is wrong.
    """
    if path is None:
        return {}
    table = load_config(MetadataTable, path).datasets
    names = list(names)
    if names and not set(names) & set(table):
        raise unknown_name(f"data set in the metadata '{path}' named", names[0], table)
    return table


def convert_file(
    source: Path, target: Path, metadata: Metadata | None = None, *, name: str | None = None, force: bool = False
) -> Converted:
    """Convert one file to one shard; a finished shard of the same file and metadata is left as it is.

    Args:
        source: any file that :func:`~lam.data.readers.read_structures` reads.
        target: the shard to write.
        metadata: what is known about the data.
        name: of the data set, for the report.
        force: convert even if finished.

    Raises:
        LamError: if a frame is wrong; then nothing is written.
    """
    metadata = metadata or Metadata()
    name = name or target.stem
    attributes = _attributes(source, metadata)
    if not force and (done := _finished(target, attributes)) is not None:
        return Converted(name, target, len(done), int(done.n_atoms.sum()), True, [])
    structures = atoms = 0
    with warnings.catch_warnings(record=True) as caught, ShardWriter(target, **attributes) as writer:
        warnings.simplefilter("default")
        for structure in _with_defaults(read_structures(source), metadata):
            writer.append(structure)
            structures += 1
            atoms += len(structure)
    messages = sorted({str(w.message) for w in caught if issubclass(w.category, LamWarning)})
    return Converted(name, target, structures, atoms, False, messages)


def convert(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    metadata: str | Path | None = None,
    jobs: int = 1,
    force: bool = False,
) -> Iterator[Converted]:
    """Convert files and folders to shards in ``out``; yield each result as it comes, then write the manifest.

    Args:
        inputs: files and folders.
        out: folder for the shards and ``manifest.yaml``.
        metadata: YAML table (:class:`MetadataTable`).
        jobs: number of processes.
        force: convert finished files again.

    Raises:
        LamError: for the first file that is wrong. Finished shards stay; no manifest is written.
    """
    files = find_inputs(inputs)
    known = read_metadata(metadata, files)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise LamError(f"'{out}' is a file; name a folder for the shards.")
    tasks = [
        (file, out / f"{name}.h5", known.get(name, Metadata()), name)
        # The largest first, so that no process is left alone with it at the end.
        for name, file in sorted(files.items(), key=lambda item: -item[1].stat().st_size)
    ]
    try:
        yield from _run(tasks, jobs, force)
    except LamError:
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()  # the first file failed: leave nothing behind
        raise
    specs = [_spec(name, out / f"{name}.h5", known.get(name, Metadata())) for name in files]
    save_manifest(Manifest(datasets=specs), out / MANIFEST)


def _run(tasks: list[tuple[Path, Path, Metadata, str]], jobs: int, force: bool) -> Iterator[Converted]:
    if jobs <= 1 or len(tasks) == 1:
        for source, target, metadata, name in tasks:
            yield convert_file(source, target, metadata, name=name, force=force)
        return
    # Spawned, not forked: the parent may already run threads (torch, progress bar).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
        futures = [
            pool.submit(convert_file, source, target, metadata, name=name, force=force)
            for source, target, metadata, name in tasks
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _spec(name: str, path: Path, metadata: Metadata) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        path=path.resolve(),
        level_of_theory=metadata.level_of_theory,
        licence=metadata.licence,
        source=metadata.source,
        weight=metadata.weight,
    )


def _attributes(source: Path, metadata: Metadata) -> dict[str, Any]:
    if not source.is_file():
        raise LamError(f"There is no file '{source}'.")
    attributes: dict[str, Any] = {
        "level_of_theory": metadata.level_of_theory,
        "licence": metadata.licence,
        "source": metadata.source,
        "notes": metadata.notes,
        "file": source.name,
        "file_sha256": _sha256(source),
    }
    for key in ("total_charge", "spin_multiplicity"):
        if getattr(metadata, key) is not None:
            attributes[f"default_{key}"] = float(getattr(metadata, key))
    return attributes


def _finished(target: Path, attributes: dict[str, Any]) -> Shard | None:
    if not target.exists():
        return None
    try:
        shard = Shard(target)
        stored = shard.attributes
    except LamError:
        return None  # damaged or of another kind: converted again
    keys = {*attributes, *(key for key in stored if key.startswith("default_"))}
    return shard if all(stored.get(key) == attributes.get(key) for key in keys) else None


def _with_defaults(structures: Iterator[Structure], metadata: Metadata) -> Iterator[Structure]:
    defaults = {key: getattr(metadata, key) for key in ("total_charge", "spin_multiplicity")}
    for structure in structures:
        missing = {k: v for k, v in defaults.items() if v is not None and getattr(structure, k) is None}
        yield replace(structure, **missing) if missing else structure


def _is_readable(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return path.is_file() and bool(suffixes) and suffixes[-1] in READABLE_IN_FOLDERS


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
