"""Reference energies fitted once more after a training."""

import numpy as np
import pytest
import torch
from making import TINY, crystals, write_shard

import lam
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import DatasetSpec, Manifest
from lam.model import HeadInfo, ModelConfig, Potential
from lam.train.errors import dataset_errors
from lam.train.refit import refit_references
from lam.train.run import pretrain


@pytest.fixture
def dataset(tmp_path):
    write_shard(tmp_path / "x.h5", crystals(12))
    write_shard(tmp_path / "y.h5", crystals(4, metals=("Cu",)))
    specs = [DatasetSpec(name=name, path=tmp_path / f"{name}.h5") for name in ("x", "y")]
    return MultiTaskDataset(Manifest(datasets=specs), "all", 4.0)


def model(elements):
    torch.manual_seed(0)
    heads = [HeadInfo(name="x", reference_energies=elements), HeadInfo(name="y", reference_energies={"Cu": 0.0})]
    return Potential(ModelConfig.parse(TINY), heads)


def test_a_constant_per_element_is_found_and_forces_stay(dataset):
    potential = model({"Cu": 3.0, "Al": -7.0, "Au": 1.5})
    before = dataset_errors(potential, dataset)
    changes = refit_references(potential, dataset, per_head=100)
    after = dataset_errors(potential, dataset)
    assert before["x"]["energy_mae"] > 1.0
    assert after["x"]["energy_mae"] < 0.1 * before["x"]["energy_mae"]
    assert after["x"]["force_mae"] == before["x"]["force_mae"]
    assert set(changes) == {"x", "y"} and changes["x"] > 1.0
    # The description of the head says what the model does; an element without data keeps its energy.
    info = potential.heads[0]
    assert info.reference_energies["Au"] == 1.5
    rebuilt = Potential(potential.config, potential.heads)
    assert torch.equal(rebuilt.reference_energies(), potential.reference_energies())


def test_heads_do_not_touch_each_other(dataset):
    potential = model({"Cu": 3.0, "Al": -7.0})
    start = potential.reference_energies().clone()
    only = MultiTaskDataset(dataset.manifest.select(["y"]), "all", 4.0, heads=["x", "y"])
    refit_references(potential, only, per_head=100)
    assert torch.equal(potential.reference_energies()[0], start[0])
    assert not torch.equal(potential.reference_energies()[1], start[1])


def test_a_training_ends_with_it(settings, tmp_path):
    plain = lam.load(pretrain(settings(steps=4)))
    refitted = lam.load(pretrain(settings(steps=4, refit_structures=8, output=str(tmp_path / "other"))))
    assert torch.equal(plain.readout.weight, refitted.readout.weight)
    moved = (plain.reference_energies() - refitted.reference_energies()).abs()
    assert float(moved.max()) > 1e-3
    shown = [info.reference_energies["Cu"] for info in (plain.heads[0], refitted.heads[0])]
    assert np.isclose(shown[1], float(refitted.reference_energies()[0, 29])) and shown[0] != shown[1]
