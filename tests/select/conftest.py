"""Structures that resemble each other, and some that do not; a tiny model to see them with."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from lam.testing import tiny_potential
from lam.testing.models import TINY


@pytest.fixture(scope="session")
def model():
    """Return a tiny potential for H, C, O, Si and Cu whose heads differ, as those of a trained model do."""
    model = tiny_potential(TINY.model_copy(update={"scalar_channels": 24, "readout_channels": 16}))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model.readout.weight.normal_(std=0.2)
    return model


@pytest.fixture
def rattled():
    """Return a function that makes ``count`` nearly equal copies of a molecule."""

    def copies(name: str, count: int, *, stdev: float = 0.005, seed: int = 0) -> list[Atoms]:
        frames = []
        for number in range(count):
            atoms = molecule(name)
            atoms.set_initial_magnetic_moments(None)
            atoms.rattle(stdev, seed=1000 * seed + number)
            frames.append(Atoms(atoms.numbers, atoms.positions))
        return frames

    return copies
