"""ASE LMDB (``.aselmdb``): OMat24, sAlex, OMol25, the newer releases of OC20 and OC22, and what others write.

A file is an LMDB in which the key ``b"1"`` holds the first row, ``b"2"`` the second, and so on up to ``nextid`` - 1;
``deleted_ids`` lists those that are gone. A value is a row of ASE's database as JSON, compressed by zlib. Arrays
are nested lists (written by fairchem's own class) or ASE's ``{"__ndarray__": [shape, type, values]}`` (by the package
ase-db-backends). Rows are decoded here, without either package. Pickled rows are refused: reading runs code.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lam.data.dialects import read_charge_and_spin
from lam.data.recipes.base import Label, Part, Recipe, attempt, check_unpacked, cut, files_with
from lam.data.structure import MAX_ATOMIC_NUMBER, Structure
from lam.errors import LamError

try:  # several times faster, and optional
    from orjson import loads as _fast_loads
except ImportError:
    _fast_loads = json.loads

SUFFIX = ".aselmdb"
_INFO = ("data", "key_value_pairs")
"""Where a row keeps what ``atoms.info`` held."""


def lmdb_parts(path: Path) -> Iterator[Part]:
    """Cut a file by rows, in the order of their numbers."""
    with open_lmdb(path) as get:
        count = len(_row_numbers(get, path))
    yield from cut(path, count)


def read_lmdb(part: Part, *, groups: tuple[str, ...] = ("group",), name: str | None = None) -> Iterator[Any]:
    """Yield the structures of a part, and an error in place of every row that cannot be used.

    Args:
        part: rows counted from 0, deleted ones not counted.
        groups: keys of the row's data that name a group, first found first; else the formula is the group.
        name: what the structures are named after, instead of the file.

    Raises:
        LamError: if the file is missing, damaged, or holds pickled rows.
    """
    name = name or part.path.name
    with open_lmdb(part.path) as get:
        numbers = _row_numbers(get, part.path)
        for index in range(part.start, len(numbers) if part.stop is None else part.stop):
            yield attempt(_read_row, get, numbers[index], f"{name}#{index}", groups)


@contextmanager
def open_lmdb(path: Path) -> Iterator[Callable[[str], bytes | None]]:
    """Open an LMDB of one file; gives a function that returns the value of a key.

    Raises:
        LamError: if the package lmdb or the file is missing, or it is damaged or holds pickled objects.
    """
    try:
        import lmdb
    except ImportError:
        raise LamError(f"Reading '{path}' needs the package lmdb; install it with: pip install 'lam[lmdb]'.") from None
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    check_unpacked(path)
    try:
        with _environment(path) as env, env.begin(buffers=True) as transaction:
            _check_size(path, env)
            if transaction.get(b"length") is not None:
                raise _pickled(path)
            yield lambda key: transaction.get(key.encode("ascii"))
    except lmdb.Error as error:
        raise LamError(f"'{path}' is damaged, truncated or no LMDB file ({error}); download it again.") from None


_open: dict[tuple[int, str], list[Any]] = {}


@contextmanager
def _environment(path: Path) -> Iterator[Any]:
    """Open a file, or share it with other readers: LMDB allows to open it once in a process."""
    import lmdb

    key = (os.getpid(), str(path.resolve()))
    if key not in _open:
        _open[key] = [lmdb.open(str(path), subdir=False, readonly=True, lock=False, meminit=False), 0]
    shared = _open[key]
    shared[1] += 1
    try:
        yield shared[0]
    finally:
        shared[1] -= 1
        if not shared[1]:
            del _open[key]
            shared[0].close()


def _check_size(path: Path, env: Any) -> None:
    """Refuse a file that ends before its last page: reading beyond its end would kill the process."""
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    size = path.stat().st_size
    if size < needed:
        raise LamError(f"'{path}' is truncated: it has {size} of {needed} bytes; download it again.")


def _row_numbers(get: Callable[[str], bytes | None], path: Path) -> range | list[int]:
    following = _decode(get("nextid"), f"{path.name}, key 'nextid'") if get("nextid") is not None else None
    if following is None:
        first = get("0")
        if first is None:
            first = get("1")
        if first is not None and not _is_zlib(first):
            raise _pickled(path)
        raise LamError(f"'{path}' has no key 'nextid': it is no ASE LMDB (.aselmdb), or it holds no rows.")
    deleted = get("deleted_ids")
    gone = set(_decode(deleted, f"{path.name}, key 'deleted_ids'")) if deleted is not None else set()
    return [number for number in range(1, following) if number not in gone] if gone else range(1, following)


def _read_row(
    get: Callable[[str], bytes | None], number: int, where: str, groups: tuple[str, ...] = ("group",)
) -> Structure:
    value = get(str(number))
    if value is None:
        raise LamError(f"{where} (row {number}) is missing.")
    row = _decode(value, where)
    if not isinstance(row, dict) or "numbers" not in row or "positions" not in row:
        raise LamError(f"{where} (row {number}) is no row of ASE's database: it has no 'numbers' or 'positions'.")
    info: dict[str, Any] = {}
    for key in _INFO:
        found = row.get(key) or {}
        for name, entry in found.items():
            if name in info and name in ("charge", "spin", "total_charge") and info[name] != entry:
                raise LamError(f"{where} contradicts itself: {name} = {info[name]} but {name} = {entry}.")
            info.setdefault(name, entry)
    charge, multiplicity = read_charge_and_spin(info, where=where)
    numbers = _array(row["numbers"], "numbers", where, np.int64)
    pbc = _array(row.get("pbc", (False, False, False)), "pbc", where, bool)
    energy = row.get("free_energy", row.get("energy"))
    return Structure(
        numbers=numbers,
        positions=_array(row["positions"], "positions", where).reshape(-1, 3),
        cell=_array(row.get("cell", np.zeros((3, 3))), "cell", where),
        pbc=pbc,
        total_charge=charge,
        spin_multiplicity=multiplicity,
        energy=None if energy is None else float(_array(energy, "energy", where).reshape(())),
        forces=_array(row["forces"], "forces", where) if row.get("forces") is not None else None,
        stress=_stress(row["stress"], where) if row.get("stress") is not None and bool(pbc.all()) else None,
        group=next((str(info[key]) for key in groups if info.get(key) not in (None, "")), "") or _formula(numbers),
        source=where,
    )


def _decode(value: bytes | memoryview, where: str) -> Any:
    try:
        text = zlib.decompress(value)
        try:
            return _fast_loads(text)
        except ValueError:  # ASE writes NaN, which only Python's own decoder reads
            return json.loads(text)
    except zlib.error:
        if bytes(value[:1]) == b"\x80":
            raise LamError(f"{where} is a pickled object; see the notes of 'lam data recipes oc20'.") from None
        raise LamError(f"{where} is damaged: it cannot be decompressed.") from None
    except ValueError as error:
        raise LamError(f"{where} is damaged: it is no JSON ({error}).") from None


def _is_zlib(value: bytes | memoryview) -> bool:
    try:
        zlib.decompress(value)
    except zlib.error:
        return False
    return True


def _array(value: Any, name: str, where: str, kind: type = np.float64) -> np.ndarray:
    """Return an array from nested lists, or from one of the ways in which ASE writes arrays and cells as JSON."""
    if isinstance(value, dict) and "array" in value:  # an ase.cell.Cell
        value = value["array"]
    try:
        if isinstance(value, dict):
            shape, dtype, flat = value["__ndarray__"]
            return np.array(flat, dtype=dtype).reshape(shape).astype(kind)
        return np.array(value, dtype=kind)
    except (KeyError, TypeError, ValueError):
        raise LamError(f"{where}: the {name} are not numbers in a form that ASE writes.") from None


def _stress(value: Any, where: str) -> np.ndarray:
    stress = _array(value, "stress", where)
    if stress.shape == (6,):
        xx, yy, zz, yz, xz, xy = stress
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if stress.size != 9:
        raise LamError(f"{where}: the stress has shape {stress.shape}; 6 (Voigt) or 3x3 values are possible.")
    return stress.reshape(3, 3)


def _formula(numbers: np.ndarray) -> str:
    if len(numbers) and numbers.min() > 0 and numbers.max() <= MAX_ATOMIC_NUMBER:
        return _hill(np.sort(numbers).astype(np.uint8).tobytes())
    return ""  # what is unknown is refused with a better message


@lru_cache(maxsize=100_000)
def _hill(numbers: bytes) -> str:
    from ase.formula import Formula
    from ase.symbols import Symbols

    return Formula(str(Symbols(np.frombuffer(numbers, dtype=np.uint8)))).format("hill")


def _pickled(path: Path) -> LamError:
    return LamError(
        f"'{path}' holds pickled objects (as the LMDB files of OC20 and OC22 made for old fairchem do), which can run "
        "any code when they are read, and is refused. Use the release as ASE LMDB (.aselmdb), or OC20's S2EF as "
        "extxyz with its .txt files."
    )


LABELS = (
    Label("energy", "free_energy, else energy", "eV", "total energy"),
    Label("forces", "forces", "eV/Angstrom"),
    Label("stress", "stress", "eV/Angstrom^3", "xx, yy, zz, yz, xz, xy; tensile positive, as in ASE"),
    Label("total_charge", "charge in data", "e"),
    Label("spin_multiplicity", "spin in data", "2S+1", "0 means not stated"),
)
_NOTES = (
    "Written by fairchem's AseDBDataset tools or ase-db-backends. The number after '#' is the index that fairchem's "
    "get_atoms takes, from 0. Structures of the same formula are one group."
)


def _recipe(**fields: Any) -> Recipe:
    values = {
        "labels": LABELS,
        "licence": "CC-BY-4.0",
        "find": files_with(SUFFIX),
        "parts": lmdb_parts,
        "read": read_lmdb,
        "notes": _NOTES,
    }
    return Recipe(**values | fields)


RECIPES = (
    _recipe(
        name="omat24",
        title="Open Materials 2024: 1e8 rattled, relaxed and hot inorganic crystals",
        level_of_theory="PBE and PBE+U, VASP",
        doi="10.48550/arXiv.2410.12771",
        files="folders of data.*.aselmdb (rattled-1000, aimd-from-PBE-1000-npt, ...), from "
        "huggingface.co/datasets/facebook/OMAT24",
        labels=LABELS[:3],
        notes=_NOTES + " Energies are not compatible with those of the Materials Project: other pseudopotentials.",
    ),
    _recipe(
        name="salex",
        title="sAlex: 1e7 steps of Alexandria's relaxations, without matches of WBM",
        level_of_theory="PBE and PBE+U, VASP",
        doi="10.48550/arXiv.2410.12771",
        files="data.*.aselmdb, from huggingface.co/datasets/facebook/OMAT24 (sAlex)",
        labels=LABELS[:3],
        notes=_NOTES + " Made from Alexandria (10.1002/adma.202210788), also CC-BY-4.0.",
    ),
    _recipe(
        name="omol25",
        title="Open Molecules 2025: 1e8 organic and inorganic molecules, complexes and electrolytes",
        level_of_theory="wB97M-V/def2-TZVPD, ORCA 6",
        doi="10.48550/arXiv.2505.08762",
        files="folders of data*.aselmdb (train_4M, train, val, neutral_train, ...), from "
        "huggingface.co/facebook/OMol25",
        labels=(*LABELS[:2], *LABELS[3:]),
        notes=_NOTES + " Charge and spin multiplicity are stated for every molecule.",
    ),
    _recipe(
        name="aselmdb",
        title="ASE LMDB, of any data set",
        level_of_theory="not stated",
        licence="not stated",
        doi="",
        files="*.aselmdb",
        read=partial(read_lmdb, groups=("group", "sid")),
        notes=_NOTES + " A key 'group' or 'sid' (system) in the row's data names the group instead.",
    ),
)
