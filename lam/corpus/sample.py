"""One generated structure, what it must satisfy, and a fingerprint of many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from lam.corpus.elements import MAX_Z, lowest_multiplicity

MIN_CONTACT = 0.7
"""Least distance of two atoms over the sum of their covalent radii, where overlap is not meant."""
DECIMALS = 6
"""Digits of positions (Angstrom) that are kept, so that a file and what was built are the same."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure, its state, and where it belongs."""

    atoms: Atoms
    kind: str
    """What made it, within its family: ``"conformer"``, ``"rocksalt"``, ..."""
    group: str
    """Structures of one group are never divided between training and test."""
    charge: int = 0
    multiplicity: int | None = None
    """Spin multiplicity; ``None``: the lowest, stated unless there are lanthanides or the structure is periodic.

    The moment of a crystal follows from its bands; stating a multiplicity would fix it.
    """
    close: bool = False
    """May atoms overlap? Meant for dimers and trimers."""

    def finished(self, family: str) -> Atoms:
        """Return clean atoms with what a labeller must know in ``info``; positions are rounded."""
        source = self.atoms
        periodic = bool(source.pbc.any())
        positions = source.positions if periodic else source.positions - source.positions.mean(axis=0)
        atoms = Atoms(
            source.numbers,
            np.round(positions, DECIMALS) + 0.0,  # no minus zero
            cell=np.round(source.cell.array, DECIMALS) + 0.0 if periodic else None,
            pbc=source.pbc,
        )
        atoms.info["total_charge"] = self.charge
        multiplicity = self.multiplicity
        if multiplicity is None and not periodic:
            multiplicity = lowest_multiplicity(atoms.numbers, self.charge)
        if multiplicity is not None:
            atoms.info["spin_multiplicity"] = multiplicity
        atoms.info["group"] = f"{family}-{self.group}"
        atoms.info["family"], atoms.info["kind"] = family, self.kind
        return atoms


def closest_contact(atoms: Atoms, reach: float = 0.8) -> float:
    """Return the least distance over the sum of covalent radii, images included.

    Args:
        atoms: a structure.
        reach: in periodic cells, contacts beyond this ratio are not looked for: infinite is returned.
    """
    radii = covalent_radii[atoms.numbers]
    if atoms.pbc.any():
        from ase.neighborlist import neighbor_list

        first, second, distance = neighbor_list("ijd", atoms, 2 * reach * float(radii.max()))
        return float((distance / (radii[first] + radii[second])).min()) if len(distance) else np.inf
    if len(atoms) < 2:
        return np.inf
    rows, columns = np.triu_indices(len(atoms), 1)
    distance = np.linalg.norm(atoms.positions[rows] - atoms.positions[columns], axis=1)
    return float((distance / (radii[rows] + radii[columns])).min())


def defect(sample: Sample, max_atoms: int) -> str:
    """Return why a structure cannot be taken, or an empty text."""
    atoms = sample.atoms
    if not 1 <= len(atoms) <= max_atoms:
        return "size"
    if atoms.numbers.min() < 1 or atoms.numbers.max() > MAX_Z:
        return "element"
    if not np.isfinite(atoms.positions).all():
        return "not finite"
    lowest = lowest_multiplicity(atoms.numbers, sample.charge)
    if sample.multiplicity is not None and (lowest is None or (sample.multiplicity - lowest) % 2):
        return "multiplicity"
    if int(atoms.numbers.sum()) - sample.charge < 1:
        return "no electrons"
    if not sample.close and closest_contact(atoms) <= MIN_CONTACT:
        return "overlap"
    return ""


def fingerprint(frames: Iterable[Atoms]) -> str:
    """Return a checksum of elements, positions, cells and states, in their order (16 hexadecimal digits)."""
    digest = hashlib.sha256()
    for atoms in frames:
        digest.update(np.asarray(atoms.numbers, dtype="<i4").tobytes())
        digest.update(np.asarray(atoms.pbc, dtype="u1").tobytes())
        for values in (atoms.positions, atoms.cell.array):
            # 1e-4 A: rounding in the last digit must not depend on the processor
            digest.update(np.round(np.asarray(values) * 1e4).astype("<i8").tobytes())
        state = [int(atoms.info.get(key, 0)) for key in ("total_charge", "spin_multiplicity")]
        digest.update(np.array(state, dtype="<i4").tobytes())
    return digest.hexdigest()[:16]
