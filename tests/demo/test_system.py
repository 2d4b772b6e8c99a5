"""The labels of the demo: what is labelled, that train and test are apart, and that they are kept."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from ase.geometry import get_distances
from ase.io import read

from lam.data.readers import read_structures
from lam.demo.system import LabelSettings, first_labels, hydrated_dipeptide, label_system, xtb
from lam.errors import LamError

TINY = LabelSettings(
    method="GFN1-xTB", waters=0, train_walkers=2, test_walkers=1, frames=2, warm_up=1, spacing=1, seed=3
)


def test_waters_are_near_but_not_inside():
    cluster = hydrated_dipeptide(4, np.random.default_rng(0))
    assert len(cluster) == 22 + 12
    gaps = get_distances(cluster.positions[22:], cluster.positions[:22])[1]
    assert gaps.min() > 1.8
    assert gaps[::3].min(axis=1).max() < 4.0
    same = hydrated_dipeptide(4, np.random.default_rng(0))
    other = hydrated_dipeptide(4, np.random.default_rng(1))
    np.testing.assert_array_equal(cluster.positions, same.positions)
    assert np.abs(cluster.positions - other.positions).max() > 0.5


def test_without_tblite_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(LamError, match=r"pip install 'lam\[demo\]'"):
        label_system(tmp_path, TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return the files of a tiny run of the real engine."""
    pytest.importorskip("tblite.ase")
    folder = tmp_path_factory.mktemp("labels")
    return (folder, *label_system(folder, TINY))


def test_labels_are_those_of_the_engine(labelled):
    _, labels, _ = labelled
    atoms = read(labels, 1)
    atoms.calc = xtb(TINY.method)
    assert atoms.get_potential_energy() == pytest.approx(atoms.info["REF_energy"], abs=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), atoms.arrays["REF_forces"], atol=1e-3)


def test_walkers_take_turns_and_test_walkers_are_others(labelled):
    _, labels, test = labelled
    train_groups = [s.group for s in read_structures(labels)]
    assert train_groups == ["walker-0", "walker-1", "walker-0", "walker-1"]
    assert {s.group for s in read_structures(test)} == {"walker-2"}
    assert all(s.energy is not None and s.forces is not None for s in read_structures(test))


def test_labels_are_kept_until_the_settings_change(labelled):
    folder, labels, _ = labelled
    before = labels.stat().st_mtime_ns
    label_system(folder, TINY)
    assert labels.stat().st_mtime_ns == before
    told = []
    label_system(folder, replace(TINY, frames=1), progress=lambda done, total: told.append((done, total)))
    assert labels.stat().st_mtime_ns != before
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_first_labels_are_the_first(tmp_path):
    frames = [hydrated_dipeptide(0, np.random.default_rng(0)) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.info["REF_energy"] = -float(number)
    from ase.io import write

    write(tmp_path / "labels.extxyz", frames)
    subset = first_labels(tmp_path / "labels.extxyz", 2)
    assert subset.name == "labels-2.extxyz"
    assert [s.energy for s in read_structures(subset)] == [0.0, -1.0]
