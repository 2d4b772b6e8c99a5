"""Read total charge and spin multiplicity from `atoms.info`, in the three dialects of the field.

========================================  =================================================
``total_charge`` / ``spin_multiplicity``  ours, and metatomic's
``charge`` / ``spin``                     fairchem; its ``spin`` is the multiplicity 2S+1
``total_charge`` / ``total_spin``         mace; its ``total_spin`` is the multiplicity 2S+1
========================================  =================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lam.errors import LamError

CHARGE_KEYS = ("total_charge", "charge")
MULTIPLICITY_KEYS = ("spin_multiplicity", "spin", "total_spin")
#: fairchem writes ``spin=0`` for data that has no spin at all, and nothing has multiplicity 0.
ZERO_MEANS_NOT_STATED = ("spin", "total_spin")
MAX_CHARGE = 100.0


def read_charge_and_spin(info: Mapping[str, Any], *, where: str = "the structure") -> tuple[float | None, float | None]:
    """Return ``(total charge in e, spin multiplicity 2S+1)``; ``None`` for what is not stated.

    Args:
        info: `atoms.info`, or any mapping with these keys; it is not changed.
        where: what the messages call the structure.

    Raises:
        LamError: if a value is no finite number, absurd, or two dialects contradict each other.
    """
    charge = _read(info, CHARGE_KEYS, where)
    multiplicity = _read(info, MULTIPLICITY_KEYS, where)
    if charge is not None and abs(charge) > MAX_CHARGE:
        raise LamError(f"{where}: a total charge of {charge:g} e is absurd; give elementary charges.")
    if multiplicity is not None and multiplicity < 1:
        raise LamError(
            f"{where}: the spin multiplicity is {multiplicity:g}, but 2S+1 is at least 1; "
            "a closed shell has 1, one unpaired electron has 2."
        )
    return charge, multiplicity


def _read(info: Mapping[str, Any], keys: tuple[str, ...], where: str) -> float | None:
    found: dict[str, float] = {}
    for key in keys:
        # True is what ASE makes of a bare word in the comment line of an XYZ file.
        if info.get(key) is not None and not isinstance(info[key], bool | np.bool_):
            value = _number(info[key], key, where)
            if not (value == 0 and key in ZERO_MEANS_NOT_STATED):
                found[key] = value
    if len(set(found.values())) > 1:
        stated = " but ".join(f"{key} = {value:g}" for key, value in found.items())
        raise LamError(f"{where} contradicts itself: {stated}. Keep one of them.")
    return next(iter(found.values()), None)


def _number(value: Any, key: str, where: str) -> float:
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError):
        raise LamError(f"{where}: {key} = {value!r} is not a number.") from None
    if not math.isfinite(number):
        raise LamError(f"{where}: {key} = {number} is not finite.")
    return number
