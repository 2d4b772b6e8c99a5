"""Recognise a format by its name or its first bytes, so that common files need no recipe to be named."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from lam.errors import LamError

HEAD = 64 * 1024
"""So many bytes of a text are looked at."""
_LOOKED_AT = 2000
"""So many files of a folder are looked at."""

_OUTPUTS = {
    "Program PWSCF": "espresso",
    "CP2K|": "cp2k",
    "ABACUS": "abacus",
    "FHI-aims": "fhi-aims",
    "* O   R   C   A *": "orca",
    "Entering Gaussian System": "gaussian",
}
_OTHERS = re.compile(r"\.(extxyz|xyz|exyz|traj|db|cif)(\.(xz|gz|zst))?$")
_TEXTS = (".out", ".log", ".txt", ".pwo")


def detect(path: str | Path) -> str | None:
    """Return the name of the recipe that reads a file or folder, or ``None`` where ASE reads it or nothing is known.

    Only the beginning of a file is looked at. Data sets that share a format are not told apart: their format is
    returned, and the user may name the data set.

    Raises:
        LamError: for a folder of several formats.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    name = path.name.lower()
    for suffixes, look in _BY_SUFFIX:
        if name.endswith(suffixes):
            return look(path)
    if name.startswith(("outcar", "vasprun")):
        return "vasp"
    return None


def _folder(path: Path) -> str | None:
    """Recognise what a folder, and those below it, hold."""
    names = {file.name for file in islice(path.rglob("*"), _LOOKED_AT) if file.is_file()}
    found = []
    if any(name.endswith(".aselmdb") for name in names):
        found.append("aselmdb")
    if "type.raw" in names and "coord.npy" in names:
        found.append("deepmd")
    if any(name.upper().startswith("OUTCAR") or name.startswith("vasprun") for name in names):
        found.append("vasp")
    others = any(file.is_file() and _OTHERS.search(file.name.lower()) for file in path.iterdir())
    if len(found) > 1 or (found and others):
        kinds = ", ".join([*found, *(["files that ASE reads"] if others else [])])
        raise LamError(
            f"The folder '{path}' holds several formats ({kinds}): name one with --recipe, or name the files."
        )
    return found[0] if found else None


def _vasp_xml(path: Path) -> str | None:
    return "vasp" if "<modeling>" in _head(path) else None


def _output(path: Path) -> str | None:
    head = _head(path)
    return next((recipe for mark, recipe in _OUTPUTS.items() if mark in head), None)


def _json(path: Path) -> str | None:
    head = _head(path)
    if '"mp_id"' in head and '"uncorrected_total_energy"' in head:
        return "mptrj"
    if '"matpes_id"' in head or ('"cohesive_energy_per_atom"' in head and '"abs_forces"' in head):
        return "matpes"
    if '"steps"' in head and '"functional"' in head:
        return "alexandria"
    return None


def _npz(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy") for name in file.namelist()}
    except (OSError, zipfile.BadZipFile):
        return None
    if {"nuclear_charges", "coords", "energies", "forces"} <= names:
        return "rmd17"
    return "md17" if {"R", "z", "E", "F"} <= names else None


def _hdf5(path: Path) -> str | None:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _hdf5_keys(file)
    except (OSError, KeyError, RuntimeError):
        return None


def _hdf5_keys(file: object) -> str | None:
    top = list(islice(file, 50))  # type: ignore[call-overload]
    if {"data", "train"} & set(top) and not hasattr(file[top[0]], "shape"):  # type: ignore[index]
        return "transition1x"
    for name in top:
        group = file[name]  # type: ignore[index]
        if hasattr(group, "shape"):
            return None
        keys = set(islice(group, 60))
        if "wb97x_dz.energy" in keys:
            return "ani1x"
        if {"coordinates", "energies", "species"} <= keys:
            return "ani2x"
        if {"conformations", "dft_total_energy"} <= keys:
            return "spice2"
        if "type.raw" in keys:
            return "deepmd-hdf5"
        if any(key.startswith("Geom-") for key in keys):
            return "qm7x"
    return None


def _always(name: str) -> Callable[[Path], str | None]:
    return lambda _: name


def _head(path: Path) -> str:
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            return file.read(HEAD).decode(errors="replace")
    except (OSError, EOFError):
        return ""


_BY_SUFFIX: Iterable[tuple[tuple[str, ...], Callable[[Path], str | None]]] = (
    ((".aselmdb",), _always("aselmdb")),
    ((".lmdb",), _always("oc20")),
    ((".npz",), _npz),
    ((".h5", ".hdf5"), _hdf5),
    ((".json", ".json.gz", ".json.bz2"), _json),
    ((".xml", ".xml.gz"), _vasp_xml),
    (_TEXTS, _output),
)
