"""Small labelled structures for the tests of `lam.data`; all made here, none read from elsewhere."""

import numpy as np
import pytest
from ase import Atoms

from lam.data.manifest import DatasetSpec, Manifest
from lam.data.shards import ShardWriter
from lam.data.structure import Structure


def _molecule(seed=0, *, numbers=(8, 1, 1), **fields):
    rng = np.random.default_rng(seed)
    count = len(numbers)
    values = {
        "numbers": np.array(numbers),
        "positions": 1.2 * np.arange(count)[:, None] + rng.normal(scale=0.05, size=(count, 3)),
        "cell": np.zeros((3, 3)),
        "pbc": np.zeros(3, dtype=bool),
        "energy": -10.0 * count + rng.normal(),
        "forces": rng.normal(size=(count, 3)),
        "group": f"g{seed}",
        "source": f"molecules.extxyz#{seed}",
    }
    return Structure(**(values | fields))


def _crystal(seed=0, *, count=4, **fields):
    rng = np.random.default_rng(seed)
    stress = rng.normal(scale=0.01, size=(3, 3))
    values = {
        "numbers": np.full(count, 14),
        "positions": rng.random((count, 3)) * 5.0,
        "cell": np.eye(3) * 5.0 + rng.normal(scale=0.3, size=(3, 3)),
        "pbc": np.ones(3, dtype=bool),
        "energy": -5.0 * count + rng.normal(),
        "forces": rng.normal(size=(count, 3)),
        "stress": stress + stress.T,
        "group": f"g{seed % 5}",
        "source": f"crystals.extxyz#{seed}",
    }
    return Structure(**(values | fields))


@pytest.fixture
def molecule():
    """Factory of water-like structures without cell."""
    return _molecule


@pytest.fixture
def crystal():
    """Factory of periodic silicon structures with stress."""
    return _crystal


@pytest.fixture
def water():
    """Return plain ASE atoms of one water molecule."""
    return Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


@pytest.fixture
def manifest(tmp_path):
    """Two data sets: 60 crystals of 2 to 13 atoms, 23 molecules."""
    with ShardWriter(tmp_path / "crystals.h5") as writer:
        for seed in range(60):
            writer.append(_crystal(seed, count=2 + seed % 12, group=f"g{seed}"))
    with ShardWriter(tmp_path / "molecules.h5") as writer:
        for seed in range(23):
            writer.append(_molecule(seed))
    return Manifest(
        datasets=[
            DatasetSpec(name="crystals", path=tmp_path / "crystals.h5"),
            DatasetSpec(name="molecules", path=tmp_path / "molecules.h5"),
        ]
    )
