"""Small labelled data of two levels of theory, made here, and the settings of a tiny training on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.cluster import Icosahedron

from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.data.shards import ShardWriter
from lam.data.structure import Structure
from lam.train.config import PretrainConfig

TINY = {
    "cutoff": 4.0, "l_max": 1, "channels": 8, "scalar_channels": 8, "sender_channels": 4,
    "radial_functions": 4, "readout_channels": 8,
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # bitwise comparisons, and two busy cores


def crystals(count: int, seed: int = 0, *, metals=("Cu", "Al"), rattle: float = 0.15) -> list:
    """Return rattled crystals with EMT energy, forces and stress."""
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        atoms = bulk(metals[index % len(metals)], cubic=True)
        atoms.set_cell(atoms.cell.array * (1 + rng.normal(scale=0.02)), scale_atoms=True)
        atoms.positions += rng.normal(scale=rattle, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        made.append(atoms)
    return made


def clusters(count: int, seed: int = 1) -> list:
    """Return rattled pieces of an argon cluster with Lennard-Jones energy and forces, without stress."""
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        atoms = Icosahedron("Ar", 2, 5.4)[: 5 + index % 4]
        atoms.positions += rng.normal(scale=0.15, size=atoms.positions.shape)
        atoms.calc = LennardJones(sigma=3.2, epsilon=0.05, rc=10.0)
        atoms.get_forces()
        made.append(atoms)
    return made


def write_shard(path: Path, frames: list) -> None:
    """Write frames, each a group of its own."""
    with ShardWriter(path) as writer:
        for index, atoms in enumerate(frames):
            writer.append(Structure.from_atoms(atoms, source=f"{path.stem}.extxyz#{index}", group=f"g{index}"))


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    """Two data sets: ``metals`` (24 crystals with stress) and ``argon`` (12 clusters without)."""
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder / "metals.h5", crystals(24))
    write_shard(folder / "argon.h5", clusters(12))
    split = {"test": 0.15, "val": 0.15}
    specs = [
        DatasetSpec(name=name, path=folder / f"{name}.h5", level_of_theory=theory, split=split)
        for name, theory in (("metals", "EMT"), ("argon", "Lennard-Jones"))
    ]
    save_manifest(Manifest(datasets=specs), folder / "manifest.yaml")
    return folder / "manifest.yaml"


@pytest.fixture
def settings(manifest, tmp_path):
    """Return a function that makes the settings of a tiny training; keywords change them."""

    def make(**changes) -> PretrainConfig:
        values = {
            "name": "tiny", "output": str(tmp_path / "run"), "manifest": str(manifest), "model": TINY, "steps": 12,
            "batch": {"max_atoms": 24, "max_edges": 2000, "workers": 0},
            "optimizer": {"warmup_steps": 2, "learning_rate": 0.01, "ema_decay": 0.9},
            "log": {"every": 2, "validate_every": 6, "checkpoint_every": 3},
        }  # fmt: skip
        for key, value in changes.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) and key != "model" else value
        return PretrainConfig.parse(values)

    return make


@pytest.fixture(scope="session")
def pretrained(manifest, tmp_path_factory) -> Path:
    """Return a checkpoint of a short training on both data sets."""
    from lam.train.run import pretrain

    config = PretrainConfig.parse(
        {
            "name": "base", "output": str(tmp_path_factory.mktemp("pretrained")), "manifest": str(manifest),
            "model": TINY, "steps": 150, "batch": {"max_atoms": 48, "workers": 0},
            "optimizer": {"learning_rate": 0.01, "warmup_steps": 5, "ema_decay": 0.9},
            "log": {"validate_every": 150},
        }  # fmt: skip
    )
    return pretrain(config)
