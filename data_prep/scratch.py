"""Select the official training frames of a benchmark from its file: shards and a manifest to train from scratch on.

    python data_prep/scratch.py configs/scratch/data/3bpa.yaml ../shared/data data/scratch/3bpa

The first argument says which frames make which data set (`Selection` below), the second is the folder with
the files it names, the third the folder to write: a shard for each data set and `manifest.yaml`. Data sets
marked `evaluate_only` become shards that the manifest leaves out, for `lam eval`. Frames not selected are
not read by any training.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, field_validator

from lam.config import Section, load_config
from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.data.readers import read_atoms
from lam.data.shards import ShardWriter
from lam.data.splits import SplitSpec
from lam.data.structure import Structure
from lam.errors import LamError


class Chosen(Section):
    """One data set: some frames of one file."""

    file: str
    """Name of the file in the folder of source files; anything that ASE reads, extended XYZ also compressed."""
    config_types: list[str] = []
    """Patterns (as of file names) of the frames' `config_type`; by default all frames."""
    independent: bool = True
    """Are the frames independent samples? Then single frames are held out for validation, else whole groups."""
    evaluate_only: bool = False
    """Write a shard for `lam eval`, and keep it out of the manifest."""
    split: SplitSpec = SplitSpec(test=0.0, val=0.1)
    """How validation frames are held out. The official test frames are in files of their own."""
    level_of_theory: str = "not stated"
    """Functional, basis and code, as the source states them."""
    licence: str = "not stated"
    """Licence, as the source states it."""
    source: str = ""
    """Repository and commit, or paper."""


class Selection(Section):
    """The data sets of a benchmark."""

    datasets: dict[str, Chosen] = Field(min_length=1)
    """By name; the name is that of the head."""

    @field_validator("datasets")
    @classmethod
    def _something_to_train_on(cls, datasets: dict[str, Chosen]) -> dict[str, Chosen]:
        if all(chosen.evaluate_only for chosen in datasets.values()):
            raise ValueError("all data sets are evaluate_only; one must be to train on")
        for name in datasets:
            if not name or any(c in "/." or c.isspace() for c in name):
                raise ValueError(f"'{name}' cannot name a data set: no dots, slashes or spaces")
        return datasets


def select(selection: Selection, files: Path, out: Path) -> Manifest:
    """Write the shards and the manifest.

    Args:
        selection: which frames.
        files: folder with the source files.
        out: folder to write to.

    Raises:
        LamError: if a file is missing or wrong, or holds no selected frame.
    """
    specs = []
    for name, chosen in selection.datasets.items():
        shard = out / f"{name}.h5"
        count = write(chosen, files / chosen.file, shard, name)
        print(f"{name}: {count} frames{' (for evaluation only)' if chosen.evaluate_only else ''} -> {shard}")
        if not chosen.evaluate_only:
            spec = DatasetSpec(
                name=name,
                path=shard.resolve(),
                level_of_theory=chosen.level_of_theory,
                licence=chosen.licence,
                source=chosen.source,
                split=chosen.split,
            )
            specs.append(spec)
    manifest = Manifest(datasets=specs)
    save_manifest(manifest, out / "manifest.yaml")
    return manifest


def write(chosen: Chosen, file: Path, shard: Path, name: str) -> int:
    """Write the selected frames of a file to a shard; return their number."""
    about = {"level_of_theory": chosen.level_of_theory, "licence": chosen.licence, "source": chosen.source}
    count = 0
    with ShardWriter(shard, **about) as writer:
        for number, atoms in read_atoms(file):
            kind = str(atoms.info.get("config_type", ""))
            if chosen.config_types and not any(fnmatchcase(kind, pattern) for pattern in chosen.config_types):
                continue
            group = f"{name}-{number}" if chosen.independent else None
            writer.append(Structure.from_atoms(atoms, source=f"{file.name}#{number}", group=group))
            count += 1
    return count


def main(arguments: list[str]) -> int:
    """Select; return the exit status."""
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        select(load_config(Selection, arguments[0]), Path(arguments[1]), Path(arguments[2]))
    except LamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
