"""Recognise a format by its name or its first bytes, so that common files need no recipe to be named."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from lam.data.recipes.calculations import COMPRESSED, OUTPUT_SUFFIXES, open_output
from lam.errors import LamError

HEAD = 64 * 1024
"""So many bytes of a text are looked at."""
_LOOKED_AT = 2000
"""So many names of files in a folder are looked at."""
_OPENED = 200
"""So many files of a folder are opened, if their names say nothing."""

_OUTPUTS = {
    "Program PWSCF": "espresso",
    "CP2K|": "cp2k",
    "ABACUS": "abacus",
    "FHI-aims": "fhi-aims",
    "* O   R   C   A *": "orca",
    "Entering Gaussian System": "gaussian",
}
_SGDML = {
    "md22": ("md22",),
    "md17": (
        *("md17", "aspirin", "azobenzene", "benzene", "ethanol", "malonaldehyde"),
        *("naphthalene", "paracetamol", "salicylic", "toluene", "uracil"),
    ),
}
"""Words in the names of files of one form, which say which data set they are of."""
_OTHERS = re.compile(r"\.(extxyz|xyz|exyz|traj|db|cif)(\.(xz|gz|zst))?$")
_S2EF = re.compile(r"(\d+)\.extxyz(\.xz|\.gz|\.zst)?$")
_CP2K_TRAJECTORY = re.compile(r"-pos-\d+\.xyz$")
_CP2K_FILES = re.compile(r"-(pos|frc|vel)-\d+\.xyz$")
_ONE_BY_ONE = re.compile(r"\.(vasp|xml|json|out)(\.(xz|gz|zst))?$")
"""Files of a folder that are data sets of their own, each recognised by itself."""


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
    if "outcar" in name or name.startswith("vasprun"):
        return "vasp"
    if _s2ef(path):
        return "oc20"
    return "cp2k" if _CP2K_TRAJECTORY.search(name) else None


def _folder(path: Path) -> str | None:
    """Recognise what a folder, and those below it, hold."""
    files = [file for file in islice(path.rglob("*"), _LOOKED_AT) if file.is_file()]
    names = {file.name for file in files}
    lower = {name.lower() for name in names}
    found = []
    if any(name.endswith(".aselmdb") for name in names):
        found.append("aselmdb")
    if "type.raw" in names and "coord.npy" in names:
        found.append("deepmd")
    if any(_s2ef(file) for file in files):
        found.append("oc20")
    if any("outcar" in name or name.startswith("vasprun") for name in lower):
        found.append("vasp")
    if any(_CP2K_TRAJECTORY.search(name) for name in lower):
        found.append("cp2k")
    beside = [file for file in path.iterdir() if file.is_file()]
    others = any(_OTHERS.search(file.name.lower()) and not _belongs(file) for file in beside)
    if not found and not others and not any(_ONE_BY_ONE.search(file.name.lower()) for file in beside):
        found = sorted({kind for file in files[:_OPENED] if (kind := detect(file)) is not None})
    if len(found) > 1 or (found and others):
        kinds = ", ".join([*found, *(["files that ASE reads"] if others else [])])
        raise LamError(
            f"The folder '{path}' holds several formats ({kinds}): name one with --recipe, or name the files."
        )
    return found[0] if found else None


def _belongs(path: Path) -> bool:
    """Is this file, which looks like one for ASE, a part of something else that was recognised?"""
    return _s2ef(path) or _CP2K_FILES.search(path.name.lower()) is not None


def _s2ef(path: Path) -> bool:
    """Is this ``17.extxyz.xz`` with ``17.txt.xz`` beside it, as OC20 is published for S2EF?"""
    found = _S2EF.match(path.name)
    return found is not None and any(path.with_name(f"{found[1]}.txt{end}").is_file() for end in ("", *COMPRESSED))


def _xml(path: Path) -> str | None:
    head = _head(path)
    return "vasp" if "<modeling>" in head else "espresso" if "<qes:espresso" in head else None


def _output(path: Path) -> str | None:
    head = _head(path)
    return next((recipe for mark, recipe in _OUTPUTS.items() if mark in head), None)


def _json(path: Path) -> str | None:
    head = _head(path)
    if '"mp_id"' in head and '"uncorrected_total_energy"' in head:
        return "mptrj"
    if '"matpes_id"' in head or ('"cohesive_energy_per_atom"' in head and '"abs_forces"' in head):
        return "matpes"
    if '"steps"' in head and ('"functional"' in head or '"ENMAX"' in head):
        return "alexandria"
    if '"mat_id"' in head and '"energy_total"' in head:
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
    if {"R", "z", "E", "F"} <= names:
        name = path.name.lower()
        return next((recipe for recipe, words in _SGDML.items() if any(word in name for word in words)), "sgdml")
    return None


def _hdf5(path: Path) -> str | None:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _hdf5_keys(file)
    except (OSError, KeyError, RuntimeError):
        return None


def _hdf5_keys(file: object) -> str | None:
    top = list(islice(file, 50))  # type: ignore[call-overload]
    if "type.raw" in top:
        return "deepmd-hdf5"
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
        with open_output(path, whole_lines=False) as text:
            return text.read(HEAD)
    except LamError:
        return ""


_BY_SUFFIX: Iterable[tuple[tuple[str, ...], Callable[[Path], str | None]]] = (
    ((".aselmdb",), _always("aselmdb")),
    ((".lmdb",), _always("oc20")),
    ((".npz",), _npz),
    ((".h5", ".hdf5"), _hdf5),
    (tuple(f".json{end}" for end in ("", "l", "l.gz", *COMPRESSED)), _json),
    (tuple(f".xml{end}" for end in ("", *COMPRESSED)), _xml),
    (tuple(f".engrad{end}" for end in ("", *COMPRESSED)), _always("orca")),
    (tuple(kind + end for kind in (".fchk", ".fch") for end in ("", *COMPRESSED)), _always("gaussian")),
    (tuple(text + end for text in OUTPUT_SUFFIXES for end in ("", *COMPRESSED)), _output),
)
