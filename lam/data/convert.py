"""Turn structure files into shards and a manifest: in parts, by several processes, finished ones skipped.

What is read how is planned in :mod:`lam.data.stream_plan`, and done in :mod:`lam.data.stream_work`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lam.atomic_write import atomic_file
from lam.data.manifest import DatasetSpec, Manifest, load_manifest, save_manifest
from lam.data.recipes import Part, Recipe
from lam.data.shard_folder import INDEX, UNFINISHED, write_index
from lam.data.shards import PARTS, is_shard
from lam.data.stream_plan import Job, fingerprint, plan_jobs, read_any
from lam.data.stream_sources import Metadata, MetadataTable, Source, find_inputs, find_sources, read_metadata
from lam.data.stream_work import Progress, Written, find_finished, run_jobs, write_job
from lam.errors import LamError

__all__ = [
    "MANIFEST",
    "REPORT",
    "Converted",
    "Metadata",
    "MetadataTable",
    "Progress",
    "convert",
    "convert_file",
    "find_inputs",
    "find_sources",
    "read_metadata",
]

MANIFEST = "manifest.yaml"
REPORT = "skipped.json"
"""Frames that were left out, by data set; beside the manifest."""
LOCK = ".lock"


@dataclass(frozen=True)
class Converted:
    """What came of one data set."""

    name: str
    path: Path
    """Its shard, or the folder of its shards."""
    structures: int
    atoms: int
    skipped: bool
    """Were all its shards found, made from the same files?"""
    warnings: list[str]
    shards: int = 1
    broken: list[dict[str, str]] = field(default_factory=list)
    """Frames that were left out: ``source`` and ``reason`` of each."""
    recipe: str = ""
    """Name of the recipe that read it; empty for files that ASE reads."""


def convert_file(
    source: Path, target: Path, metadata: Metadata | None = None, *, name: str | None = None, force: bool = False
) -> Converted:
    """Convert one file that ASE reads to one shard; a finished one of the same file and metadata is left as it is.

    Args:
        source: any file that :func:`~lam.data.readers.read_structures` reads.
        target: the shard to write.
        metadata: what is known about the data.
        name: of the data set, for the report.
        force: convert even if finished.

    Raises:
        LamError: if a frame is wrong; then nothing is written.
    """
    if not source.is_file():
        raise LamError(f"There is no file '{source}'.")
    metadata = metadata or Metadata()
    name = name or target.stem
    attributes = _attributes(metadata, None) | {"file": source.name, "file_sha256": fingerprint(source)}
    job = Job(name, target, (Part(source),), read_any, attributes, alone=True)
    done = None if force else find_finished(job, 0)
    return _converted(name, target, [done or write_job(job, _defaults(metadata))], "")


def convert(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    recipe: str | Recipe | None = None,
    name: str | None = None,
    metadata: str | Path | None = None,
    jobs: int = 1,
    force: bool = False,
    skip_broken: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Converted]:
    """Convert files and folders to shards in ``out``; yield each data set as it is done, then write the manifest.

    A conversion that was killed goes on with the shards that are missing. Data sets that a manifest in ``out``
    already names stay in it.

    Args:
        inputs: files and folders, see :func:`find_sources`.
        out: folder for the shards and ``manifest.yaml``.
        recipe: how to read the inputs; recognised by default.
        name: makes all inputs one data set of this name.
        metadata: YAML table (:class:`MetadataTable`).
        jobs: number of processes.
        force: convert finished files again.
        skip_broken: at most so many broken frames of each file are left out, and recorded in ``skipped.json``.
        progress: called about five times a second.

    Raises:
        LamError: for the first file that is wrong. Finished shards stay; no manifest is written.
    """
    sources = find_sources(inputs, recipe, name)
    known = read_metadata(metadata, [source.name for source in sources])
    about = {source.name: known.get(source.name, Metadata()) for source in sources}
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise LamError(f"'{out}' is a file; name a folder for the shards.")
    new = not out.exists()
    plans = {
        source.name: plan_jobs(
            source.name, source.files, source.recipe, out, _attributes(about[source.name], source.recipe)
        )
        for source in sources
    }
    before = load_manifest(out, missing_ok=True) if (out / MANIFEST).is_file() else None
    results: list[Converted] = []
    try:
        with _locked(out):
            for result in _convert_all(sources, plans, about, jobs, force, skip_broken, progress):
                results.append(result)
                yield result
            _write_report(results, out / REPORT)
            by_name = {result.name: result for result in results}
            specs = [
                _spec(by_name[source.name], source, about[source.name], before, metadata is not None)
                for source in sources
            ]
            others = [spec for spec in (before.datasets if before else []) if spec.name not in by_name]
            save_manifest(Manifest(datasets=[*others, *specs]), out / MANIFEST)
    except LamError:
        if new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()  # the first file failed: leave nothing behind
        raise


def _convert_all(
    sources: list[Source],
    plans: dict[str, list[Job]],
    about: dict[str, Metadata],
    processes: int,
    force: bool,
    max_broken: int,
    progress: Callable[[Progress], None] | None,
) -> Iterator[Converted]:
    """Write what is missing of all data sets; yield each that is complete."""
    done: dict[str, list[Written]] = {name: [] for name in plans}
    waiting: list[Job] = []
    for name, plan in plans.items():
        _clear(plan)
        found = [None if force else find_finished(job, max_broken) for job in plan]
        done[name] = [result for result in found if result is not None]
        missing = [job for job, result in zip(plan, found, strict=True) if result is None]
        waiting += missing
        if missing and not plan[0].alone:
            folder = plan[0].target.parent
            folder.mkdir(parents=True, exist_ok=True)
            (folder / UNFINISHED).write_text("Shards are being written; the conversion is not finished.\n")

    recipes = {source.name: source.recipe.name if source.recipe else "" for source in sources}

    def complete(name: str) -> Converted:
        plan = plans[name]
        _check_broken(done[name], max_broken)
        path = plan[0].target if plan[0].alone else plan[0].target.parent
        result = _converted(name, path, done[name], recipes[name])
        if not result.structures:
            raise LamError(f"No structure of '{name}' can be used: {result.broken[0]['reason']}")
        if not plan[0].alone:
            write_index(path)
            (path / UNFINISHED).unlink(missing_ok=True)
        return result

    for name in [name for name, plan in plans.items() if len(done[name]) == len(plan)]:
        yield complete(name)
    # The largest first, so that no process is left alone with it at the end.
    waiting.sort(key=lambda job: -sum(part.path.stat().st_size for part in job.parts) if job.alone else 0)
    defaults = {name: _defaults(metadata) for name, metadata in about.items()}
    for written in run_jobs(waiting, defaults, processes=processes, max_broken=max_broken, progress=progress):
        name = written.job.dataset
        done[name].append(written)
        _check_broken(done[name], max_broken)
        if len(done[name]) == len(plans[name]):
            yield complete(name)


def _check_broken(written: list[Written], max_broken: int) -> None:
    """Hold the limit for a source that several shards were made from."""
    count: dict[str, int] = {}
    for entry in (entry for result in written for entry in result.skipped):
        count[entry.source] = count.get(entry.source, 0) + 1
        if count[entry.source] > max_broken:
            raise LamError(
                f"'{entry.source}' has more than {max_broken} broken frames, one of them being: {entry.reason}"
            )


def _clear(plan: list[Job]) -> None:
    """Remove what another plan or a killed process left where the shards of this plan go."""
    first = plan[0].target
    folder = first.parent.parent / plan[0].dataset if not plan[0].alone else first.parent / plan[0].dataset
    planned = {job.target for job in plan}
    for leftover in first.parent.glob(f".{first.name if plan[0].alone else 'part-'}*.h5"):
        leftover.unlink()
    if not plan[0].alone:
        (folder.parent / f"{plan[0].dataset}.h5").unlink(missing_ok=True)
        for shard in folder.glob(PARTS):
            if shard not in planned:
                shard.unlink()
    elif folder.is_dir() and is_shard(folder):
        for file in (*folder.glob(PARTS), folder / INDEX, folder / UNFINISHED):
            file.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            shutil.rmtree(folder)


def _converted(name: str, path: Path, written: list[Written], recipe: str) -> Converted:
    written = sorted(written, key=lambda result: result.job.target)
    messages = sorted({message for result in written for message in result.warnings})
    if more := sum(result.more_warnings for result in written):
        messages.append(f"{more} warnings more")
    return Converted(
        name,
        path,
        sum(result.structures for result in written),
        sum(result.atoms for result in written),
        all(result.found for result in written),
        messages,
        len(written),
        [asdict(entry) for result in written for entry in result.skipped],
        recipe,
    )


def _write_report(results: list[Converted], path: Path) -> None:
    """Record the frames that were left out; those of other data sets stay in the record."""
    report: dict[str, Any] = {}
    if path.is_file():
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            report = {}
    for result in results:
        report.pop(result.name, None)
        if result.broken:
            report[result.name] = sorted(result.broken, key=lambda entry: (entry["source"], entry["reason"]))
    if report:
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def _spec(result: Converted, source: Source, metadata: Metadata, before: Manifest | None, stated: bool) -> DatasetSpec:
    """Return the entry of the manifest; a split set by hand stays, and a weight that no metadata states."""
    old = next((spec for spec in before.datasets if spec.name == result.name), None) if before else None
    kept = {} if old is None else {"split": old.split} | ({} if stated else {"weight": old.weight})
    values = {
        "name": result.name,
        "path": result.path.resolve(),
        "level_of_theory": metadata.level_of_theory,
        "licence": metadata.licence,
        "source": metadata.source,
        "weight": metadata.weight,
    }
    return DatasetSpec(**values | _from_recipe(metadata, source.recipe) | kept)


def _from_recipe(metadata: Metadata, recipe: Recipe | None) -> dict[str, str]:
    """Return what the recipe of a data set knows and the metadata do not state."""
    if recipe is None:
        return {}
    facts = {"level_of_theory": recipe.level_of_theory, "licence": recipe.licence}
    facts |= {"source": f"https://doi.org/{recipe.doi}"} if recipe.doi else {}
    return {key: value for key, value in facts.items() if getattr(metadata, key) in ("", "not stated")}


def _attributes(metadata: Metadata, recipe: Recipe | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "level_of_theory": metadata.level_of_theory,
        "licence": metadata.licence,
        "source": metadata.source,
        "notes": metadata.notes,
    } | _from_recipe(metadata, recipe)
    return attributes | {f"default_{key}": value for key, value in _defaults(metadata).items()}


def _defaults(metadata: Metadata) -> dict[str, float]:
    values = {key: getattr(metadata, key) for key in ("total_charge", "spin_multiplicity")}
    return {key: float(value) for key, value in values.items() if value is not None}


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep a second conversion out of the folder; the lock ends with the process, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / LOCK
    with open(path, "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LamError(f"Another conversion is writing to '{out}'; wait for it, or name another folder.") from None
        except (ImportError, OSError):
            pass  # no locks on this system or file system
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
