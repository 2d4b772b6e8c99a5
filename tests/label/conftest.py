"""What the tests of the labeller share."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let ``ase:fakes.NAME`` be found, also by the processes that are started."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{HERE.parents[1]}")
    yield
    sys.modules.pop("fakes", None)


@pytest.fixture
def trimers(tmp_path):
    """Write ``trimers(count, {row: symbol})``: distinct H3, some with a marking atom; return the file."""

    def make(count, marked=None):
        frames = []
        for row in range(count):
            atoms = Atoms("H3", positions=[[0.01 * row, 0, 0], [1.1, 0, 0], [0, 1.2, 0.3]])
            if marked and row in marked:
                atoms.symbols[2] = marked[row]
            frames.append(atoms)
        path = tmp_path / "trimers.extxyz"
        write(path, frames)
        return path

    return make


def numeric_force(engine, structure, index, step=1e-3):
    """Return minus the central difference of the engine's energy for one ``(atom, axis)``."""
    energies = []
    for sign in (1, -1):
        moved = structure.positions.copy()
        moved[index] += sign * step
        energies.append(engine.calculate(replace(structure, positions=moved)).energy)
    return (energies[1] - energies[0]) / (2 * step)


def numeric_forces(engine, structure, step=1e-3):
    """Return minus the central differences of the engine's energy, (N, 3)."""
    indices = np.ndindex(len(structure), 3)
    return np.array([numeric_force(engine, structure, index, step) for index in indices]).reshape(-1, 3)


def numeric_stress(engine, structure, step=1e-3):
    """Return central differences of the engine's energy under strain over the volume, (3, 3)."""
    stress = np.zeros((3, 3))
    for i in range(3):
        for j in range(i, 3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                strained = replace(structure, cell=structure.cell @ strain, positions=structure.positions @ strain)
                energies.append(engine.calculate(strained).energy)
            stress[i, j] = stress[j, i] = (energies[0] - energies[1]) / (2 * step) / structure.volume
    return stress
