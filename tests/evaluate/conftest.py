"""A small untrained potential and labelled structures that it did not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lam.data.structure import Structure
from lam.model.config import ModelConfig
from lam.model.heads import HeadInfo
from lam.model.potential import Potential


@pytest.fixture(scope="session")
def model() -> Potential:
    """Return a tiny potential with two heads: ``water`` (H, O) and ``metal`` (Cu, Pt)."""
    torch.manual_seed(0)
    config = ModelConfig(
        cutoff=4.0, l_max=1, channels=4, radial_functions=4, sender_channels=2, scalar_channels=4, readout_channels=4
    )
    heads = [
        HeadInfo(name="water", elements={"H": 5, "O": 5}, reference_energies={"H": -1.0, "O": -10.0}, molecular=True),
        HeadInfo(name="metal", elements={"Cu": 5, "Pt": 5}, reference_energies={"Cu": -3.0}, periodic=True),
    ]
    return Potential(config, heads).eval()


@pytest.fixture
def make():
    """Return a function that makes random structures of the given atomic numbers with labels."""

    def structures(numbers, count=6, *, seed=0, offsets=None, force_scale=1.0, stress=False, labels="EF"):
        random = np.random.default_rng(seed)
        numbers = np.array(numbers)
        grid = np.array(list(np.ndindex(4, 4, 4)), dtype=float)[: len(numbers)] * 2.2
        made = []
        for index in range(count):
            keep = np.sort(random.permutation(len(numbers))[: len(numbers) - index % 2])
            some = numbers[keep]
            energy = sum((offsets or {}).get(int(z), -5.0) for z in some) + random.normal(scale=0.05)
            made.append(
                Structure(
                    numbers=some,
                    positions=grid[keep] + random.normal(scale=0.1, size=(len(some), 3)),
                    cell=np.eye(3) * 9.0 if stress else np.zeros((3, 3)),
                    pbc=np.full(3, stress),
                    energy=float(energy) if "E" in labels else None,
                    forces=random.normal(scale=force_scale, size=(len(some), 3)) if "F" in labels else None,
                    stress=np.diag(random.normal(scale=0.01, size=3)) if stress else None,
                    source=f"made#{index}",
                )
            )
        return made

    return structures
