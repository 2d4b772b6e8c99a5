"""The folder of a run: what was asked for, the structures, and the journals of all workers."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lam.atomic_write import atomic_file
from lam.data.readers import read_atoms
from lam.data.shards import Shard, ShardWriter
from lam.data.structure import Structure
from lam.errors import LamError
from lam.label.journal import SUFFIX, Place, read_journals
from lam.label.tasks import RUN_FILE

STRUCTURES = "structures.h5"
INPUTS = "inputs.json"
_LABEL_KEYS = ("energy", "free_energy", "forces", "stress", "virial", "virials")


@dataclass
class Done:
    """What the journals say about one structure."""

    kind: str
    """Empty for labels, else the kind of failure."""
    place: Place
    seconds: float
    family: str | None
    """Name of the cells for which this one was compared with larger ones, with this result."""


@dataclass(frozen=True)
class Inputs:
    """The structures to label, each once."""

    shard: Shard | None
    keys: list[str]
    """Of the rows of ``shard``."""
    duplicates: int
    """Structures that were left out because the same is there already."""
    invalid: list[tuple[str, str]]
    """Source and reason of frames that are no structures."""


def run_folder(out: Path) -> Path:
    """Return the folder that keeps the state of the run beside its output."""
    return out.with_name(out.name + ".run")


def has_results(folder: Path) -> bool:
    """Has a run in this folder finished any structure?"""
    return any(folder.glob(f"*{SUFFIX}"))


def structure_key(structure: Structure) -> str:
    """Return a digest of everything a label depends on: atoms, positions, cell, charge and multiplicity."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(structure.numbers.astype("<i2").tobytes())
    for array in (structure.positions, structure.cell * structure.pbc.any()):
        digest.update((np.asarray(array, dtype="<f8") + 0.0).tobytes())  # + 0.0: no negative zeros
    state = (structure.total_charge or 0.0, structure.spin_multiplicity)
    digest.update(repr((structure.pbc.tolist(), *state)).encode())
    return digest.hexdigest()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder; a second run in it is refused. The claim ends with the process, however it ends.

    Raises:
        LamError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # no such locks on this system
        except BlockingIOError:
            raise LamError(f"Another process is labelling into '{folder}'; wait for it, or end it.") from None
        yield


def prepare(folder: Path, asked: dict[str, Any], *, resume: bool, overwrite: bool) -> str:
    """Make or find the run in ``folder`` and return its identity.

    Args:
        folder: the folder, held by this process.
        asked: engine and settings; a run goes on with the same ones only.
        resume: go on with a run that is there.
        overwrite: forget a run that is there.

    Raises:
        LamError: if a run is there and neither was asked for, or it has other settings.
    """
    path = folder / RUN_FILE
    if overwrite:
        for file in folder.iterdir():
            if file.name != "lock":
                shutil.rmtree(file) if file.is_dir() else file.unlink()
    if path.is_file() and not has_results(folder):
        path.unlink()  # it stopped before it began
    if path.is_file():
        if not resume:
            raise LamError(
                f"'{folder}' holds a run already: go on with it by --resume, or start anew with --overwrite."
            )
        stored = json.loads(path.read_text(encoding="utf-8"))
        for key, value in asked.items():
            if stored.get(key) != value:
                raise LamError(
                    f"The run in '{folder}' was made with {key} = {stored.get(key)!r}, not {value!r}; labels of two "
                    "kinds must not mix. Choose another output, or start anew with --overwrite."
                )
        return stored["id"]
    identity = uuid.uuid4().hex
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps({"id": identity, **asked}, indent=1) + "\n", encoding="utf-8")
    return identity


def collect_inputs(files: Sequence[Path], folder: Path) -> Inputs:
    """Store the structures of ``files`` in the folder, each once and without labels, unless they are there.

    Raises:
        LamError: if a file is damaged, or there is nothing in it.
    """
    stamp = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    with suppress(OSError, ValueError, KeyError, LamError):
        stored = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
        if stored["files"] == stamp:
            shard = Shard(folder / STRUCTURES) if stored["keys"] else None
            return Inputs(shard, stored["keys"], stored["duplicates"], [tuple(each) for each in stored["invalid"]])
    (folder / INPUTS).unlink(missing_ok=True)
    keys: dict[str, None] = {}
    invalid: list[tuple[str, str]] = []
    duplicates = 0
    with warnings.catch_warnings(), ShardWriter(folder / STRUCTURES) as writer:
        warnings.simplefilter("ignore")  # what is odd is said of the labelled output
        for source, structure in _structures(files):
            if isinstance(structure, str):
                invalid.append((source, structure))
                continue
            key = structure_key(structure)
            if key in keys:
                duplicates += 1
                continue
            keys[key] = None
            writer.append(structure)
        if not keys:
            reason = f" The first problem: {invalid[0][1]}" if invalid else ""
            raise LamError(f"There is no structure to label in {', '.join(map(str, files))}.{reason}")
    entry = {"files": stamp, "keys": list(keys), "duplicates": duplicates, "invalid": invalid}
    with atomic_file(folder / INPUTS) as temporary:
        temporary.write_text(json.dumps(entry), encoding="utf-8")
    return Inputs(Shard(folder / STRUCTURES), list(keys), duplicates, invalid)


def read_done(folder: Path) -> dict[str, Done]:
    """Return what the journals hold, by key; labels go before failures, the first labels before later ones."""
    done: dict[str, Done] = {}
    for record, place in read_journals(folder):
        known = done.get(record["key"])
        if known is None or known.kind:
            family = record.get("family")
            done[record["key"]] = Done(record.get("kind", ""), place, record.get("seconds", 0.0), family)
    return done


def _structures(files: Sequence[Path]) -> Iterator[tuple[str, Structure | str]]:
    """Yield source and structure, without labels; or the reason why a frame is none."""
    for path in files:
        if path.suffix.lower() == ".h5":
            for structure in Shard(path):
                yield structure.source, replace(structure, energy=None, forces=None, stress=None)
            continue
        for number, atoms in read_atoms(path):
            source = f"{path.name}#{number}"
            atoms.calc = None
            for values in (atoms.info, atoms.arrays):
                for key in [key for key in values if key in _LABEL_KEYS or str(key).startswith("REF_")]:
                    del values[key]  # labels of the input do not matter, and bad ones must not stop new ones
            try:
                yield source, Structure.from_atoms(atoms, source=source)
            except LamError as error:
                yield source, str(error)
