"""Write a corrected copy of a data set: only what is certain is changed, and everything that was done is logged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from lam.atomic_write import atomic_file
from lam.data.audit.auditor import Audited
from lam.data.audit.finding import LISTED, Finding
from lam.data.describe import DataInput
from lam.data.labels import ENERGY_KEYS, FORCE_KEYS, STRESS_KEYS, VIRIAL_KEYS
from lam.data.readers import read_atoms
from lam.data.shard_writer import ShardWriter
from lam.data.shards import open_shard
from lam.data.structure import ISOLATED_ATOM, Structure
from lam.errors import LamError

SUFFIXES = (".h5", ".extxyz", ".xyz")
LOG_SUFFIX = ".log.json"
_OF_THE_FILE = ("schema", "schema_version", "units", "pair_radii", "part", "file_sha256")


@dataclass(frozen=True)
class Fixed:
    """What came of it."""

    path: Path | None
    """The corrected copy; None if nothing was certain, and nothing was written."""
    log: dict[str, Any]
    """What was done and what was left, as in the file beside the copy."""


def fix(audited: Audited, out: str | Path) -> Fixed:
    """Write a copy of a data set with what its findings say is certain; the input is never changed.

    Repeated structures with equal labels are left out, labels whose unit or sign energies prove are multiplied by the
    factor, isolated atoms are marked as such, frames that cannot be read are left out. Copy and log (``OUT.log.json``)
    appear whole or not at all.

    Args:
        audited: the data set after its audit.
        out: the file to write: a shard (.h5) or extended XYZ.

    Raises:
        LamError: if ``out`` is the input or has another ending.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise LamError(f"--fix cannot write '{out}'; give a name that ends in {', '.join(SUFFIXES)}.")
    source = audited.data.path
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise LamError(f"--fix never changes its input: give another name than '{out}'.")
    repairs = [finding for finding in audited.findings if finding.repair is not None]
    broken = audited.auditor.broken.count
    log: dict[str, Any] = {
        "input": str(source),
        "applied": [_applied(finding) for finding in repairs],
        "left": [finding.to_dict() for finding in audited.findings if finding.suspicious and finding.repair is None],
    }
    if broken:
        names = audited.auditor.broken.texts[:LISTED]
        log["applied"].append({"what": "drop", "reason": "frames that cannot be read", "count": broken, "names": names})
    if not repairs and not broken:
        return Fixed(None, log | {"output": None})
    log["output"] = str(out)
    counts = _write(audited.data, out, repairs, log)
    log |= counts
    with atomic_file(Path(f"{out}{LOG_SUFFIX}")) as temporary:
        temporary.write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    return Fixed(out, log)


def _applied(finding: Finding) -> dict[str, Any]:
    repair = finding.repair
    assert repair is not None
    entry: dict[str, Any] = {"what": repair.what, "reason": finding.message, "confidence": finding.confidence}
    if repair.what == "scale":
        return entry | {"label": repair.label, "factor": repair.factor}
    return entry | {"count": len(repair.rows), "rows": list(repair.rows)}


def _write(data: DataInput, out: Path, findings: list[Finding], log: dict[str, Any]) -> dict[str, int]:
    repairs = [finding.repair for finding in findings if finding.repair is not None]
    dropped = {row for repair in repairs if repair.what == "drop" for row in repair.rows}
    isolated = {row for repair in repairs if repair.what == "mark isolated" for row in repair.rows}
    factors = {repair.label: repair.factor for repair in repairs if repair.what == "scale"}
    seen = written = 0
    with ExitStack() as stack:
        append = _opened(stack, data, out, log)
        for index, structure, atoms in _structures(data):
            seen += 1
            if structure is None or index in dropped:
                continue
            append(_corrected(structure, factors, index in isolated), atoms)
            written += 1
        if not written:
            raise LamError(f"Nothing of '{data.path}' would be left; '{out}' was not written.")
    return {"structures_in": seen, "structures_out": written}


def _corrected(structure: Structure, factors: dict[str, float], isolated: bool) -> Structure:
    changes: dict[str, Any] = {}
    for label, factor in factors.items():
        value = getattr(structure, label)
        if value is not None:
            changes[label] = value * factor
    if isolated:
        changes["group"] = ISOLATED_ATOM
    return replace(structure, **changes) if changes else structure


def _structures(data: DataInput) -> Iterator[tuple[int, Structure | None, Atoms | None]]:
    """Yield place, structure (None if it cannot be used) and, of files, the atoms as they were read."""
    if data.is_shard:
        shard = open_shard(data.path)
        for row in range(len(shard)):
            yield row, _attempt(lambda row=row: shard[row]), None
        return
    try:
        for index, atoms in read_atoms(data.path):
            source = f"{data.path.name}#{index}"
            structure = _attempt(lambda atoms=atoms, source=source: Structure.from_atoms(atoms, source=source))
            yield index, structure, atoms
    except LamError:  # the rest cannot be read; the audit has said so
        yield -1, None, None


def _attempt(read: Callable[[], Structure]) -> Structure | None:
    try:
        return read()
    except LamError:
        return None


def _opened(
    stack: ExitStack, data: DataInput, out: Path, log: dict[str, Any]
) -> Callable[[Structure, Atoms | None], None]:
    """Return what appends a structure to the copy, which appears when the stack is left."""
    if out.suffix.lower() == ".h5":
        attributes = open_shard(data.path).attributes if data.is_shard else {"file": data.path.name}
        attributes = {key: value for key, value in attributes.items() if key not in _OF_THE_FILE}
        writer = stack.enter_context(ShardWriter(out, **attributes, fixes=json.dumps(log["applied"])))
        return lambda structure, atoms: writer.append(structure)
    from ase.io.extxyz import write_xyz

    temporary = stack.enter_context(atomic_file(out))
    file = stack.enter_context(temporary.open("w", encoding="utf-8"))
    return lambda structure, atoms: write_xyz(file, [_to_atoms(structure, atoms)], write_results=False)


def _to_atoms(structure: Structure, original: Atoms | None) -> Atoms:
    """Return atoms with the labels as REF_..., and whatever else the original had."""
    atoms = structure.to_atoms(prefix="REF_")
    atoms.info["group"] = structure.group
    if structure.group == ISOLATED_ATOM:
        atoms.info["config_type"] = ISOLATED_ATOM
    if original is None:
        return atoms
    labels = {*ENERGY_KEYS, *FORCE_KEYS, *STRESS_KEYS, *VIRIAL_KEYS}
    for key, value in original.info.items():
        if key not in labels and key not in atoms.info:
            atoms.info[key] = value
    for key, value in original.arrays.items():
        if key not in labels and key not in atoms.arrays and len(np.shape(value)):
            atoms.arrays[key] = value
    return atoms
