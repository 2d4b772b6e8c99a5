"""MPtrj: relaxation trajectories and static calculations of the Materials Project, as CHGNet published them.

One JSON object of 12 GB, ``{material: {frame: {...}}}``. A large plain file is cut by bytes: a part begins at the
first material after its first byte, so that parts are found without reading, and each holds one material at a time.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lam.data.recipes.base import Label, Part, Recipe, attempt, files_with
from lam.data.recipes.json_stream import SUFFIXES, open_json
from lam.data.recipes.pymatgen_json import read_structure
from lam.data.structure import Structure
from lam.errors import LamError

_PART_BYTES = 1 << 26  # about 8000 frames
_HEAD = 1 << 20
# A material, whose first entry is a frame: "mp-1005792": {"mp-1012897-0-0": {. Nothing inside of a frame is like it.
_MATERIAL = re.compile(rb'"(?:mp|mvc)-\d+"\s*:\s*\{\s*"(?:mp|mvc)-\d[\d-]*"\s*:\s*\{')


def parts(path: Path) -> Iterator[Part]:
    """Cut the file by bytes if it is large and plain; else it is one part."""
    if not path.is_file():
        raise LamError(f"There is no file '{path}'.")
    size = path.stat().st_size
    if path.suffix != ".json" or size <= _PART_BYTES or not _begins_as_expected(path):
        yield Part(path)
        return
    for start in range(0, size, _PART_BYTES):
        yield Part(path, start, min(start + _PART_BYTES, size))


def read(part: Part) -> Iterator[Structure | LamError]:
    """Yield the frames of some materials."""
    if part.stop is None and part.start == 0:
        with open_json(part.path) as stream:
            for material in stream.keys():  # noqa: SIM118 - not a dictionary
                yield from _frames(part.path, material, stream.value())
        return
    with open(part.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        stop = len(text) if part.stop is None else part.stop
        found = _MATERIAL.search(text, part.start)
        while found is not None and found.start() < stop:
            following = _MATERIAL.search(text, found.end())
            piece = text[found.start() : len(text) if following is None else following.start()]
            yield from _frames(part.path, *_material(piece, part.path, last=following is None))
            found = following


def _begins_as_expected(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(_HEAD).lstrip()
    return head[:1] == b"{" and _MATERIAL.match(head[1:].lstrip()) is not None


def _material(piece: bytes, path: Path, *, last: bool) -> tuple[str, Any]:
    """Return ``(material, frames)`` from the text between two materials; what is left must be a separator."""
    decoder = json.JSONDecoder()
    try:
        text = piece.decode()
        key, end = decoder.raw_decode(text)
        frames, end = decoder.raw_decode(text, text.index("{", end))
    except (ValueError, UnicodeDecodeError) as error:
        raise LamError(f"'{path}' is truncated or damaged at {piece[:20]!r} ({error}).") from None
    if text[end:].strip() != ("}" if last else ","):
        raise LamError(f"'{path}' is truncated or not in the form of MPtrj after '{key}': {text[end : end + 40]!r}.")
    return key, frames


def _frames(path: Path, material: str, frames: Any) -> Iterator[Structure | LamError]:
    if not isinstance(frames, dict):
        raise LamError(f"'{path}' is not in the form of MPtrj: '{material}' holds no frames.")
    for number, (name, frame) in enumerate(frames.items()):
        source = f"{path.name}/{material}#{number}"
        yield attempt(_frame, frame, name, source=source, group=material)


def _frame(frame: Any, name: str, *, source: str, group: str) -> Structure:
    missing = {"structure", "uncorrected_total_energy", "force"} - set(frame if isinstance(frame, dict) else {})
    if missing:
        raise LamError(f"{source} ({name}) has no '{sorted(missing)[0]}'.")
    return read_structure(
        frame["structure"],
        source=source,
        group=group,
        energy=frame["uncorrected_total_energy"],
        forces=frame["force"],
        stress=frame.get("stress"),
    )


MPTRJ = Recipe(
    name="mptrj",
    title="MPtrj: relaxations and static calculations of the Materials Project (1.58e6 frames)",
    level_of_theory="PBE and PBE+U as the Materials Project mixes them, VASP",
    licence="MIT",
    doi="10.1038/s42256-023-00716-3",
    files="MPtrj_2022.9_full.json from figshare, 10.6084/m9.figshare.23713842.",
    labels=(
        Label("positions", "structure", "Angstrom", "pymatgen's Structure; fractional coordinates count"),
        Label("energy", "uncorrected_total_energy", "eV", "VASP's total; corrected_total_energy is not read"),
        Label("forces", "force", "eV/Angstrom"),
        Label("stress", "stress", "kbar", "VASP's sign, compressive positive: times -0.1 GPa"),
        Label("total_charge", "structure.charge", "e", "where it is stated"),
    ),
    find=files_with(*SUFFIXES),
    parts=parts,
    read=read,
    notes="The group is the material (mp-id). corrected_total_energy and energy_per_atom carry the MP2020 corrections, "
    "constants by composition: the uncorrected energy is read instead. It is "
    "VASP's energy extrapolated to zero smearing (e_0_energy in CHGNet's own parser), which differs from the free "
    "energy of the forces by half the entropy term, in metals. magmom and bandgap are not read.",
)

RECIPES = (MPTRJ,)
