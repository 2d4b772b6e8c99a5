"""The structures of the zero-shot part are what they say."""

from __future__ import annotations

import numpy as np
from ase.neighborlist import neighbor_list

from lam.demo.structures import WATER_DENSITY, examples, water_box


def test_the_four_kinds_are_there_and_no_atoms_overlap():
    found = examples()
    assert [example.kind for example in found] == ["molecule", "crystal", "surface", "liquid"]
    for example in found:
        assert neighbor_list("d", example.atoms, 3.0).min() > 0.9
    assert [bool(example.atoms.pbc.all()) for example in found] == [False, True, True, True]


def test_water_has_the_density_of_the_liquid_and_whole_molecules():
    box = water_box()
    grams = box.get_masses().sum() / 6.02214e23
    assert abs(grams / (box.get_volume() * 1e-24) - WATER_DENSITY) < 1e-3
    first, second, distance = neighbor_list("ijd", box, 1.6)
    bonded = first // 3 == second // 3
    assert np.bincount(first[bonded], minlength=len(box)).tolist() == [2, 2, 2] * (len(box) // 3)
    assert distance[~bonded].min(initial=2.0) > 1.5


def test_the_same_every_time():
    for once, again in zip(examples(), examples(), strict=True):
        np.testing.assert_array_equal(once.atoms.positions, again.atoms.positions)
