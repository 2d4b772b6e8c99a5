"""What is chosen from: files, shards and manifests as one numbered stream of structures that can be read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lam.data.convert import MANIFEST
from lam.data.manifest import load_manifest
from lam.data.readers import read_atoms
from lam.data.recipes import Recipe
from lam.data.shards import is_shard, open_shard
from lam.data.splits import SPLITS
from lam.data.stream_sources import find_sources
from lam.data.stream_splits import split_shard
from lam.data.structure import Structure
from lam.errors import LamError, unknown_name

if TYPE_CHECKING:
    from ase import Atoms

    from lam.data.shard_folder import Shards
    from lam.data.shards import Shard

ALL = "all"
PARTS = (*SPLITS, ALL)
"""Which part of the data sets of a manifest may be chosen from."""


@dataclass(frozen=True)
class Member:
    """A structure of a pool."""

    structure: Structure
    atoms: Atoms | None = None
    """As they were read, with everything that the file says of them; ``None`` for shards and recipes."""


class FileSource:
    """Files of one data set, read from the beginning each time.

    Args:
        name: of the data set.
        files: files or folders.
        recipe: how to read them; ``None`` where ASE reads them.
    """

    def __init__(self, name: str, files: Sequence[Path], recipe: Recipe | None = None) -> None:
        self.name, self.files, self.recipe = name, list(files), recipe
        self.about: dict[str, str] = {}
        self.size: int | None = None
        """Number of structures; ``None`` before they were counted."""

    def members(self) -> Iterator[Member]:
        """Yield the structures, in order.

        Raises:
            LamError: if a file cannot be read or a frame is wrong.
        """
        for file in self.files:
            yield from self._of_recipe(file, self.recipe) if self.recipe else _of_ase(file)

    def fetch(self, places: Sequence[int]) -> Iterator[tuple[int, Member]]:
        """Yield place and structure of some places (rising)."""
        wanted = iter(places)
        following = next(wanted, None)
        for place, member in enumerate(self.members()):
            if place == following:
                yield place, member
                following = next(wanted, None)
                if following is None:
                    return
        raise LamError(f"'{self.files[0]}' changed while structures were chosen from it; run the command again.")

    @staticmethod
    def _of_recipe(file: Path, recipe: Recipe) -> Iterator[Member]:
        for part in recipe.parts(file):
            for structure in recipe.read(part):
                if isinstance(structure, LamError):
                    raise structure
                yield Member(structure)


def _of_ase(file: Path) -> Iterator[Member]:
    for number, atoms in read_atoms(file):
        yield Member(Structure.from_atoms(atoms, source=f"{file.name}#{number}"), atoms)


class ShardSource:
    """A shard, or a folder of shards, or some rows of it.

    Args:
        name: of the data set.
        shard: where it is read.
        rows: which structures, rising; all by default.
        about: level of theory, licence and source, where they are stated elsewhere than in the shard.
    """

    def __init__(
        self, name: str, shard: Shard | Shards, rows: np.ndarray | None = None, about: dict[str, str] | None = None
    ) -> None:
        self.name, self.shard = name, shard
        self.rows = np.arange(len(shard)) if rows is None else rows
        stated = {key: str(shard.attributes.get(key, "")) for key in ("level_of_theory", "licence", "source")}
        self.about = {key: value for key, value in (stated | (about or {})).items() if value}

    @property
    def size(self) -> int:
        """Number of structures."""
        return len(self.rows)

    def members(self) -> Iterator[Member]:
        """Yield the structures, in order."""
        for piece, rows in self.shard.by_piece(self.rows):
            for row in rows:
                yield Member(piece[row])

    def fetch(self, places: Sequence[int]) -> Iterator[tuple[int, Member]]:
        """Yield place and structure of some places."""
        for place in places:
            yield place, Member(self.shard[int(self.rows[place])])


Source = FileSource | ShardSource


def open_pool(paths: Sequence[str | Path], *, part: str = ALL) -> list[Source]:
    """Open what is chosen from: manifests (or their folders), shards, and everything that ``lam data convert`` reads.

    Args:
        paths: files and folders.
        part: of the data sets of a manifest: "train", "val", "test" or "all".

    Raises:
        LamError: if a path is missing or holds nothing of the kind, or ``part`` is unknown.
    """
    if part not in PARTS:
        raise unknown_name("split", part, PARTS)
    if not paths:
        raise LamError("There is nothing to choose from: name structure files, shards or a manifest.")
    sources: list[Source] = []
    for path in map(Path, paths):
        if not path.exists():
            raise LamError(f"There is no file or folder '{path}'.")
        if path.suffix.lower() in (".yaml", ".yml") or (path / MANIFEST).is_file():
            sources += _of_manifest(path, part)
        elif part != ALL:
            raise LamError(f"'{path}' has no splits; the {part} split is of a manifest.")
        elif _holds_shards(path):
            sources.append(ShardSource(path.stem, open_shard(path)))
        else:
            sources += [FileSource(source.name, source.files, source.recipe) for source in find_sources([path])]
    return sources


def _holds_shards(path: Path) -> bool:
    """Is it a shard? Other HDF5 files are data sets that recipes read."""
    if path.is_dir() or not is_shard(path):
        return is_shard(path)
    from lam.data.recipes import detect

    return detect(path) is None


def _of_manifest(path: Path, part: str) -> list[Source]:
    sources: list[Source] = []
    for spec in load_manifest(path).datasets:
        shard = open_shard(spec.path)
        rows = None if part == ALL else split_shard(shard, spec.split).rows(part)
        stated = {"level_of_theory": spec.level_of_theory, "licence": spec.licence, "source": spec.source}
        about = {key: value for key, value in stated.items() if value and value != "not stated"}
        sources.append(ShardSource(spec.name, shard, rows, about))
    if not any(source.size for source in sources):
        raise LamError(f"No data set of '{path}' has structures in its {part} split.")
    return sources
