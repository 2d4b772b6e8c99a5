"""The manifest: which data sets a training reads, with head, level of theory, licence, weight and split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

from lam.atomic_write import atomic_file
from lam.config import Section, load_config
from lam.data.shards import is_shard
from lam.data.splits import SplitSpec
from lam.errors import LamError, unknown_name


class DatasetSpec(Section):
    """One data set: a shard and what is known about it."""

    name: str = Field(min_length=1, pattern=r"^[^\s/.]+$")
    """Name of the data set and of the head that learns it."""
    path: Path
    """The shard (.h5), or the folder of shards (part-*.h5) that are one data set, relative to the manifest."""
    level_of_theory: str = "not stated"
    """Functional, basis and code of the labels, as the source states it."""
    licence: str = "not stated"
    """Licence of the data, as the source states it."""
    source: str = ""
    """Where the data comes from: repository and commit, or paper."""
    weight: float = Field(1.0, gt=0)
    """Factor on how often the data set is drawn in training."""
    split: SplitSpec = SplitSpec()
    """How structures are held out."""


class Manifest(Section):
    """The data sets of a training, in the order of their heads."""

    version: Literal[1] = 1
    """Version of the manifest's format."""
    datasets: list[DatasetSpec] = Field(min_length=1)
    """The data sets; names are unique."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Manifest:
        seen: set[str] = set()
        for spec in self.datasets:
            if spec.name in seen:
                raise ValueError(f"two data sets are named '{spec.name}'; rename one")
            seen.add(spec.name)
        return self

    @property
    def names(self) -> list[str]:
        """Names of the data sets (and heads), in order."""
        return [spec.name for spec in self.datasets]

    def select(self, names: list[str]) -> Manifest:
        """Return the manifest with only the data sets of these names, in the given order.

        Raises:
            LamError: for a name that is not there, listing those that are.
        """
        by_name = {spec.name: spec for spec in self.datasets}
        for name in names:
            if name not in by_name:
                raise unknown_name("data set", name, by_name)
        return Manifest(datasets=[by_name[name] for name in names])


def load_manifest(path: str | Path, *, missing_ok: bool = False) -> Manifest:
    """Read a manifest; the paths of its data sets become absolute.

    Args:
        path: the file, or the folder of ``manifest.yaml``.
        missing_ok: leave shards that are not there to who reads them.

    Raises:
        LamError: if the file is missing or wrong, or a shard it names is not there.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "manifest.yaml"
    manifest = load_config(Manifest, path)
    folder = path.resolve().parent
    specs = [spec.model_copy(update={"path": (folder / spec.path).resolve()}) for spec in manifest.datasets]
    for spec in specs:
        if not missing_ok and not (spec.path.is_file() or (spec.path.is_dir() and is_shard(spec.path))):
            raise LamError(
                f"The data set '{spec.name}' of '{path}' names the shard '{spec.path}', which is not there; "
                "make it with: lam data convert."
            )
    return manifest.model_copy(update={"datasets": specs})


def save_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest; paths below or beside its folder are written relative to it."""
    path = Path(path)
    values = manifest.model_dump(mode="json", exclude_defaults=True)
    for entry, spec in zip(values["datasets"], manifest.datasets, strict=True):
        if spec.path.is_absolute():
            entry["path"] = Path(os.path.relpath(spec.path, path.resolve().parent)).as_posix()
    text = yaml.safe_dump({"version": manifest.version, **values}, sort_keys=False, allow_unicode=True, width=110)
    with atomic_file(path) as temporary:
        temporary.write_text(
            "# Data sets of a training; written by `lam data convert`. Schema: docs/data-schema.md\n" + text,
            encoding="utf-8",
        )
