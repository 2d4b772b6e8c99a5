"""Data sets of two levels of theory, the settings of a tiny training on them, and its result."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
import torch
from making import TINY, clusters, crystals, shifted, write_shard

from lam.data.manifest import DatasetSpec, Manifest, save_manifest
from lam.train.config import PretrainConfig


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # bitwise comparisons, and two busy cores


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
            merged = isinstance(value, dict) and key in ("batch", "optimizer", "log")
            values[key] = {**values[key], **value} if merged else value
        return PretrainConfig.parse(values)

    return make


@pytest.fixture(scope="session")
def pretrained(manifest, tmp_path_factory) -> Path:
    """Return a checkpoint of a short training on both data sets."""
    from lam.train.run import pretrain

    config = PretrainConfig.parse(
        {
            "name": "base",
            "output": str(tmp_path_factory.mktemp("pretrained")),
            "manifest": str(manifest),
            "model": TINY,
            "steps": 150,
            "batch": {"max_atoms": 48, "workers": 0},
            "optimizer": {"learning_rate": 0.01, "warmup_steps": 5, "ema_decay": 0.9},
            "log": {"validate_every": 150},
        }
    )
    return pretrain(config)


@pytest.fixture(scope="session")
def labels(tmp_path_factory) -> Path:
    """Twenty crystals of copper, independent frames of one formula, with EMT labels shifted by 100 eV."""
    file = tmp_path_factory.mktemp("labels") / "new.labels.extxyz"
    ase.io.write(file, [shifted(atoms) for atoms in crystals(20, seed=3, metals=("Cu",), rattle=0.25)])
    return file
