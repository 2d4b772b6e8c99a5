"""Plan a conversion: which parts of which sources become which shard of which data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lam.data.readers import read_structures
from lam.data.recipes import Part, Recipe
from lam.data.recipes.base import PART_STRUCTURES
from lam.data.stream_xyz import is_xyz, read_xyz_part, xyz_parts
from lam.data.structure import Structure
from lam.errors import LamError

PART_BYTES = 8 * 1024 * 1024
"""About how large the files are that make one shard, where the number of structures is not known."""
MAX_SHARDS = 512
"""About how many shards a data set has at most: each is a file that is open while training."""
_WHOLE_HASH = 64 * 1024 * 1024
_SAMPLES = 16

Reader = Callable[[Part], Iterator[Structure | LamError]]


@dataclass(frozen=True)
class Job:
    """One shard to be written."""

    dataset: str
    """Name of the data set."""
    target: Path
    """The shard."""
    parts: tuple[Part, ...]
    """What goes into it, in order."""
    read: Reader | str
    """Reads a part; a text is the name of a recipe."""
    attributes: dict[str, Any]
    """Stored with the shard; equal ones of a finished shard mean that nothing needs to be done."""
    alone: bool
    """Is it the only shard of the data set?"""


def read_any(part: Part) -> Iterator[Structure | LamError]:
    """Read a file of any format that ASE reads; extended XYZ may be cut into parts."""
    if is_xyz(part.path):
        yield from read_xyz_part(part)
    else:
        yield from read_structures(part.path)


def any_parts(path: Path) -> Iterator[Part]:
    """Cut a file of any format that ASE reads."""
    if not is_xyz(path):
        yield Part(path)
    elif path.stat().st_size == 0:
        raise LamError(f"'{path}' is empty.")
    else:
        yield from xyz_parts(path)


def plan_jobs(
    dataset: str, sources: Sequence[Path], recipe: Recipe | None, out: Path, attributes: dict[str, Any]
) -> list[Job]:
    """Cut the sources of a data set into shards. The same sources give the same shards.

    Small sources share a shard; a data set of one shard is the file ``<name>.h5``, one of several the folder
    ``<name>`` with ``part-00000.h5``, ...

    Args:
        dataset: its name.
        sources: files or folders.
        recipe: how to read them; ``None`` for files that ASE reads.
        out: folder for the data set.
        attributes: to be stored with every shard.

    Raises:
        LamError: if a source cannot be cut.
    """
    pieces: list[tuple[Part, float]] = []
    for source in sources:
        parts = list((recipe.parts if recipe else any_parts)(source))
        pieces += [(part, 1.0 if len(parts) > 1 else _weight(part)) for part in parts]
    if not pieces:
        raise LamError(f"There is nothing to convert in '{sources[0]}'" + (f" for {recipe.name}." if recipe else "."))
    full = max(1.0, sum(weight for _, weight in pieces) / MAX_SHARDS)
    bundles: list[list[Part]] = [[]]
    load = 0.0
    for part, weight in pieces:
        if bundles[-1] and load + weight > full + 1e-9:
            bundles.append([])
            load = 0.0
        last = bundles[-1][-1] if bundles[-1] else None
        if last is not None and last.path == part.path and last.stop == part.start:
            bundles[-1][-1] = Part(part.path, last.start, part.stop)  # opened and searched once
        else:
            bundles[-1].append(part)
        load += weight
    read: Reader | str = read_any
    if recipe is not None:
        read = recipe.name if _is_registered(recipe) else recipe.read
    return [
        Job(
            dataset=dataset,
            target=out / f"{dataset}.h5" if len(bundles) == 1 else out / dataset / f"part-{number:05d}.h5",
            parts=tuple(bundle),
            read=read,
            attributes=attributes | _origin(bundle, recipe),
            alone=len(bundles) == 1,
        )
        for number, bundle in enumerate(bundles)
    ]


def _is_registered(recipe: Recipe) -> bool:
    from lam.data.recipes import MODULES, get

    return recipe.name in MODULES and get(recipe.name) is recipe


def _weight(part: Part) -> float:
    """Return how much of a shard a source of one part fills."""
    known = 0.0 if part.stop is None else (part.stop - part.start) / PART_STRUCTURES
    path = part.path
    size = path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    return min(1.0, max(known, size / PART_BYTES))


def _origin(parts: Sequence[Part], recipe: Recipe | None) -> dict[str, str]:
    """Return the attributes that say what a shard was made from."""
    origin = {"file": parts[0].path.name + (f" and {len(parts) - 1} more" if len(parts) > 1 else "")}
    if recipe is not None:
        origin["recipe"] = recipe.name
    if len(parts) == 1 and parts[0].start == 0 and parts[0].stop is None:
        return origin | {"file_sha256": fingerprint(parts[0].path)}
    text = json.dumps([[p.path.name, p.start, p.stop, fingerprint(p.path, whole=False)] for p in parts])
    return origin | {"part": hashlib.sha256(text.encode()).hexdigest()}


def fingerprint(path: Path, *, whole: bool = True) -> str:
    """Return the SHA-256 of a file or of all files of a folder.

    Args:
        path: the file or folder.
        whole: read all of it, up to 64 MiB; else, and above that, its size and sixteen samples: sources of
            terabytes are not read twice.
    """
    stat = path.stat()
    return _fingerprint(path, stat.st_size, stat.st_mtime_ns, whole)


@lru_cache(maxsize=4096)
def _fingerprint(path: Path, size: int, changed: int, whole: bool) -> str:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        text = json.dumps([[file.relative_to(path).as_posix(), fingerprint(file, whole=whole)] for file in files])
        return hashlib.sha256(text.encode()).hexdigest()
    sample = 1024 * 1024 if whole else 64 * 1024
    with open(path, "rb") as file:
        if size <= (_WHOLE_HASH if whole else _SAMPLES * sample):
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for place in range(_SAMPLES):
            file.seek(place * (size - sample) // (_SAMPLES - 1))
            digest.update(file.read(sample))
        return f"sampled:{digest.hexdigest()}"
