"""Blocks of frames, which are checked together: the same structures and the same errors as one by one."""

import numpy as np
import pytest
from recipe_tools import assert_same

from lam.data.recipes.base import attempt
from lam.data.recipes.common import NO_CELL, Block
from lam.data.structure import Structure
from lam.errors import LamError

FRAMES, ATOMS = 4, 3


def _block(**changes):
    rng = np.random.default_rng(3)
    fields = {
        "numbers": np.array([8, 1, 1]),
        "positions": rng.normal(size=(FRAMES, ATOMS, 3)),
        "cells": 5 * np.eye(3) + rng.normal(scale=0.1, size=(FRAMES, 3, 3)),
        "energies": rng.normal(size=FRAMES),
        "forces": rng.normal(size=(FRAMES, ATOMS, 3)),
        "stresses": rng.normal(scale=0.1, size=(FRAMES, 3, 3)),
        "group": "g",
        "source": "a.h5",
        "start": 7,
        "charge": -1.0,
        "multiplicity": 2.0,
    }
    return Block(**(fields | changes))


def _one_by_one(block):
    for row in range(FRAMES):
        yield attempt(
            Structure,
            numbers=block.numbers,
            positions=block.positions[row],
            cell=NO_CELL if block.cells is None else block.cells[row],
            pbc=block.cells is not None,
            energy=None if block.energies is None else block.energies[row],
            forces=None if block.forces is None else block.forces[row],
            stress=None if block.stresses is None else block.stresses[row],
            total_charge=block.charge,
            spin_multiplicity=block.multiplicity,
            group=block.group,
            source=f"a.h5#{7 + row}",
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cells": None, "stresses": None},
        {"energies": None},
        {"forces": None},
        {"positions": np.ones((FRAMES, ATOMS, 3), dtype=np.float32)},
    ],
)
def test_the_same_structures(changes):
    found, expected = list(_block(**changes).frames(range(FRAMES))), list(_one_by_one(_block(**changes)))
    assert_same(found, expected)
    for one, other in zip(found, expected, strict=True):
        for key, value in vars(other).items():
            mine = vars(one)[key]
            assert type(mine) is type(value)
            if isinstance(value, np.ndarray):
                assert mine.dtype == value.dtype and mine.flags.c_contiguous


@pytest.mark.parametrize(
    ("key", "index", "value"),
    [
        ("positions", (2, 1, 0), np.nan),
        ("positions", (2, 1, 0), np.inf),
        ("positions", (2, 1, 0), 2e7),
        ("energies", (2,), np.nan),
        ("energies", (2,), -4e6),
        ("forces", (2, 0, 1), np.nan),
        ("forces", (2, 0, 1), -2e4),
        ("stresses", (2, 0, 1), np.nan),
        ("stresses", (2, 1, 1), 2e3),
        ("cells", (2, 1), 0.0),
        ("cells", (2, 1, 1), np.nan),
        ("cells", (2, 1), [5.0, 1e-4, 0.0]),
    ],
)
def test_the_same_errors(key, index, value):
    block, other = _block(), _block()
    for one in (block, other):
        if key == "cells":
            one.cells[2, 0] = [5.0, 0.0, 0.0]
        getattr(one, key)[index] = value
    found, expected = list(block.frames(range(FRAMES))), list(_one_by_one(other))
    assert [type(item) for item in found] == [Structure, Structure, LamError, Structure]
    assert [type(item) for item in expected] == [type(item) for item in found]
    assert str(found[2]) == str(expected[2])


def test_an_unknown_element_is_an_error():
    found = list(_block(numbers=np.array([8, 0, 1])).frames(range(FRAMES)))
    assert all("atomic number 0" in str(item) for item in found)
