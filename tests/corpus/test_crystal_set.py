"""The crystals that are kept with the project: whole, convertible, and what their table compares."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lam.data.convert import convert
from lam.data.readers import read_structures
from lam.data.shards import open_shard
from lam.errors import LamError

FOLDER = Path(__file__).resolve().parents[2] / "data_prep" / "crystals"


@pytest.fixture(scope="module")
def crystals():
    return list(read_structures(FOLDER / "crystals.extxyz.xz"))


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("compare_settings", FOLDER / "compare_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_labelled_and_varied(crystals):
    assert len({int(z) for structure in crystals for z in structure.numbers}) >= 70
    for structure in crystals:
        assert structure.pbc.all() and structure.energy is not None and structure.stress.shape == (3, 3)
        assert structure.spin_multiplicity is None
        assert np.abs(structure.forces.sum(axis=0)).max() < 0.01
    assert sum(np.abs(structure.forces).max() > 0.01 for structure in crystals) > 10


def test_they_convert_without_a_warning(tmp_path):
    (made,) = convert(
        [FOLDER / "crystals.extxyz.xz"], tmp_path, name="crystals-gpaw", metadata=FOLDER / "metadata.yaml"
    )
    assert not made.warnings and not made.broken
    shard = open_shard(tmp_path / "crystals-gpaw.h5")
    assert "GPAW" in str(shard.attributes["level_of_theory"])


def test_table_of_differences(crystals, compare, capsys):
    first = crystals[0]
    other = replace(first, energy=first.energy - 0.01 * len(first))
    row = compare.table([first], [other]).splitlines()[-1]
    assert "| +10.0 |" in row and first.formula in row
    with pytest.raises(LamError, match="in common"):
        compare.table([first], crystals[1:2])
    assert compare.main([str(FOLDER / "crystals.extxyz.xz"), str(FOLDER / "none.extxyz")]) == 2
    assert "error" in capsys.readouterr().err
