"""Find the labels on ASE atoms: every place and name in use, one meaning each.

Energy, forces and stress are looked for, in this order, as

1. ``REF_energy``, ``REF_forces``, ``REF_stress``, ``REF_virials`` (or ``REF_virial``) in ``info``/``arrays``;
2. the plain names ``free_energy``, ``energy``, ``forces``, ``stress``, ``virial``, ``virials`` there;
3. the same in the calculator's stored results, where ASE >= 3.23 moves plain names on reading.

The free energy goes before the energy, because forces are its derivatives: some engines report an
energy extrapolated to zero smearing that disagrees with its own forces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lam.data.dialects import read_charge_and_spin
from lam.data.structure import ISOLATED_ATOM, MAX_ATOMIC_NUMBER, Structure
from lam.errors import LamError

if TYPE_CHECKING:
    from ase import Atoms

ENERGY_KEYS = ("REF_energy", "free_energy", "energy")
FORCE_KEYS = ("REF_forces", "forces")
STRESS_KEYS = ("REF_stress", "stress")
VIRIAL_KEYS = ("REF_virials", "REF_virial", "virials", "virial")
REFERENCE = "REF_"


def read_labels(atoms: Atoms, *, source: str = "", group: str | None = None) -> Structure:
    """Return the structure with the labels that ``atoms`` carry; see the module for their names.

    A stress or virial on a structure that is not periodic in three directions has no meaning and is left out.

    Raises:
        LamError: if a label has a wrong shape, is not finite or absurd; or for a wrong structure.
    """
    where = source or "the structure"
    charge, multiplicity = read_charge_and_spin(atoms.info, where=where)
    found = _collect(atoms)
    energy = _first(found, ENERGY_KEYS)
    stress = _stress(found, atoms, where) if bool(np.all(atoms.pbc)) else None
    return Structure(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=np.array(atoms.cell),
        pbc=atoms.pbc,
        total_charge=charge,
        spin_multiplicity=multiplicity,
        energy=None if energy is None else _scalar(energy, where),
        forces=_first(found, FORCE_KEYS),
        stress=stress,
        group=group if group is not None else _group(atoms),
        source=source,
    )


def _collect(atoms: Atoms) -> dict[str, Any]:
    """Return all values by name; what stands in ``info``/``arrays`` hides the calculator's results."""
    found: dict[str, Any] = {}
    results = getattr(atoms.calc, "results", None) if atoms.calc is not None else None
    for values in (results or {}, atoms.info, atoms.arrays):
        for key in (*ENERGY_KEYS, *FORCE_KEYS, *STRESS_KEYS, *VIRIAL_KEYS):
            value = values.get(key)
            # True is what ASE makes of a bare word in the comment line of an XYZ file.
            if value is not None and not isinstance(value, bool | np.bool_):
                found[key] = value
    return found


def _first(found: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((found[key] for key in keys if key in found), None)


def _scalar(value: Any, where: str) -> float:
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError):
        raise LamError(f"{where}: the energy {value!r} is not a number; correct or remove it.") from None


def _stress(found: dict[str, Any], atoms: Atoms, where: str) -> np.ndarray | None:
    # A reference virial wins over a plain stress: the prefix says which of them is the label.
    ordered = sorted((*STRESS_KEYS, *VIRIAL_KEYS), key=lambda key: not key.startswith(REFERENCE))
    for key in ordered:
        if key not in found:
            continue
        tensor = _tensor(found[key], key, where)
        if key in STRESS_KEYS:
            return tensor
        volume = abs(np.linalg.det(np.array(atoms.cell)))
        if volume == 0:
            raise LamError(f"{where}: {key} cannot be turned into a stress, because the cell has no volume.")
        return -tensor / volume
    return None


def _tensor(value: Any, key: str, where: str) -> np.ndarray:
    """Return a (3, 3) tensor from 3x3, 9 or 6 (Voigt: xx, yy, zz, yz, xz, xy) values."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise LamError(f"{where}: {key} = {value!r} is not a tensor of numbers.") from None
    if array.shape in ((3, 3), (9,)):
        return array.reshape(3, 3)
    if array.shape == (6,):
        xx, yy, zz, yz, xz, xy = array
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    raise LamError(f"{where}: {key} has shape {array.shape}; give 3x3, 9 or 6 (Voigt) values.")


def _group(atoms: Atoms) -> str:
    config_type = atoms.info.get("config_type")
    if config_type == ISOLATED_ATOM:
        return ISOLATED_ATOM
    for value in (atoms.info.get("group"), config_type):
        if value is not None and str(value):
            return str(value)
    known = len(atoms) and atoms.numbers.min() >= 0 and atoms.numbers.max() <= MAX_ATOMIC_NUMBER
    return atoms.get_chemical_formula() if known else ""  # what is unknown is refused with a better message
