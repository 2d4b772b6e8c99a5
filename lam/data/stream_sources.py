"""What is converted: files and folders become named data sets, with what is known about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from lam.config import Section
from lam.config.load import load_config
from lam.data.readers import COMPRESSIONS, XYZ_SUFFIXES, stem
from lam.data.recipes import Recipe, detect, get
from lam.errors import LamError, unknown_name

READABLE_IN_FOLDERS = (*XYZ_SUFFIXES, ".traj", ".db", ".cif", ".vasp", ".xml", ".json", ".out")


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
class Source:
    """A data set to be converted: what it is made from."""

    name: str
    files: tuple[Path, ...]
    """Files, or folders for formats that are folders."""
    recipe: Recipe | None
    """How to read them; ``None`` for files that ASE reads."""


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
            name = _name_of(file)
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


def find_sources(
    paths: Sequence[str | Path], recipe: str | Recipe | None = None, name: str | None = None
) -> list[Source]:
    """Return the data sets that files and folders hold.

    With the recipe of a public data set, all paths are that data set; with the recipe of a format, each path is a
    data set of its own. Without a recipe, paths of a format that is recognised are read by its recipe, and every
    other file, also those in folders, is a data set that ASE reads.

    Args:
        paths: files and folders.
        recipe: name of a recipe, or the recipe.
        name: of the data set that all paths together are.

    Raises:
        LamError: for a path that is not there or holds nothing to be read, an unknown recipe, or two data sets of
            one name.
    """
    paths = [Path(path) for path in paths]
    for path in paths:
        if not path.exists():
            raise LamError(f"There is no file or folder '{path}'.")
    chosen = get(recipe) if isinstance(recipe, str) else recipe
    sources: list[Source] = []
    for path in paths:
        how = chosen
        if how is None and (found := detect(path)) is not None:
            how = get(found)
        if how is None:
            for key, file in find_inputs([path]).items():
                found = detect(file)
                sources.append(Source(key, (file,), None if found is None else get(found)))
            continue
        files = tuple(how.find(path))
        if not files:
            raise LamError(f"'{path}' holds nothing for the recipe '{how.name}', which reads: {how.files}")
        sources.append(Source(how.name if chosen is not None and how.doi else _name_of(path), files, how))
    if name is not None or (chosen is not None and chosen.doi):
        if len({source.recipe.name if source.recipe else "" for source in sources}) > 1:
            raise LamError("The files are of several formats and cannot be one data set; convert them one by one.")
        files = tuple(file for source in sources for file in source.files)
        sources = [Source(name or sources[0].name, files, sources[0].recipe)]
    seen: dict[str, Source] = {}
    for source in sources:
        if source.name in seen:
            raise LamError(
                f"'{seen[source.name].files[0]}' and '{source.files[0]}' would both become '{source.name}'; rename "
                "one, or make them one data set with --name."
            )
        seen[source.name] = source
    return sources


def _name_of(path: Path) -> str:
    return (path.resolve().name if path.is_dir() else stem(path)).replace(" ", "_").replace(".", "-")


def _is_readable(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return path.is_file() and bool(suffixes) and suffixes[-1] in READABLE_IN_FOLDERS
