"""Labels of calculations that converged to nonsense: energies lower than any bond can make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.io.extxyz import write_xyz

from lam.atomic_write import atomic_file
from lam.corpus.elements import MAX_Z
from lam.data.readers import read_atoms

DEEPEST = 7.0
"""eV per atom below the fit by composition; nothing is bound by so much more than others of its elements."""
RELATED = 3.0
"""The same, where another structure of the same composition is below :data:`DEEPEST`."""
_ROUNDS = 30


def composition_residuals(counts: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Return energies per atom minus a fit by composition that few wrong ones do not move.

    Args:
        counts: (structures, elements), how many atoms of each.
        energies: (structures,), eV.

    Returns:
        (structures,), eV per atom.
    """
    atoms = counts.sum(axis=1)
    fractions, values = counts / atoms[:, None], energies / atoms
    weights = np.ones(len(values))
    for _ in range(_ROUNDS):  # least absolute values, by weights
        rows = np.sqrt(weights)
        solution = np.linalg.lstsq(fractions * rows[:, None], values * rows, rcond=1e-10)[0]
        residuals = values - fractions @ solution
        weights = 1.0 / np.maximum(np.abs(residuals), 0.5)
    return residuals


def find_collapsed(files: Sequence[Path]) -> dict[Path, list[int]]:
    """Return the frames of files of labels, all of one method, whose energies are impossibly low.

    Tight binding now and then converges to a state that is hundreds of eV too low, with forces to match.
    """
    frames: list[tuple[Path, int]] = []
    counts, energies = [], []
    for file in files:
        for number, (_, atoms) in enumerate(read_atoms(file)):
            frames.append((file, number))
            counts.append(np.bincount(atoms.numbers, minlength=MAX_Z + 1))
            energies.append(float(atoms.info["REF_energy"]))
    found: dict[Path, list[int]] = {}
    if frames:
        residuals = composition_residuals(np.array(counts, dtype=float), np.array(energies))
        collapsed = {counts[index].tobytes() for index in np.flatnonzero(residuals < -DEEPEST)}
        for index in np.flatnonzero(residuals < -RELATED):
            file, number = frames[index]
            if counts[index].tobytes() in collapsed:
                found.setdefault(file, []).append(number)
    return found


def write_without(source: Path, target: Path, left_out: Sequence[int]) -> None:
    """Write the frames of a file of labels but those of some numbers, whole or not at all."""
    import gzip

    drop = set(left_out)
    with atomic_file(target) as temporary, gzip.open(temporary, "wt", encoding="utf-8") as file:
        for number, (_, atoms) in enumerate(read_atoms(source)):
            if number not in drop:
                write_xyz(file, atoms)
