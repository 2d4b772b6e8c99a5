"""What the tests of the recipes share: reading in parts, and the units written out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lam.data.recipes.base import Part, Recipe
from lam.data.structure import Structure
from lam.errors import LamError

# Written out, so that the tests do not take them from where the code does (CODATA 2018).
HARTREE = 27.211386
BOHR = 0.52917721
KCAL_MOL = 0.0433641
KBAR = 1.0 / 1602.1766


def structures(recipe: Recipe, path: Path) -> list[Structure]:
    """Read a whole source by its parts; an error in place of a frame is raised."""
    found = []
    for part in recipe.parts(path):
        for item in recipe.read(part):
            if isinstance(item, LamError):
                raise item
            found.append(item)
    return found


def problems(recipe: Recipe, path: Path) -> list[str]:
    """Return the messages of all frames of a source that cannot be used."""
    items: Iterator[Structure | LamError] = (item for part in recipe.parts(path) for item in recipe.read(part))
    return [str(item) for item in items if isinstance(item, LamError)]


def assert_same(first: list[Structure], second: list[Structure]) -> None:
    """Assert that two readings agree in everything."""
    assert [s.source for s in first] == [s.source for s in second]
    for a, b in zip(first, second, strict=True):
        assert (a.group, a.energy, a.total_charge, a.spin_multiplicity) == (
            b.group,
            b.energy,
            b.total_charge,
            b.spin_multiplicity,
        )
        np.testing.assert_array_equal(a.numbers, b.numbers)
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.cell, b.cell)
        for one, other in ((a.forces, b.forces), (a.stress, b.stress)):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(one, other)


def check_parts(recipe: Recipe, path: Path, parts: list[Part]) -> None:
    """Assert that ``parts`` read one after another give what one part of everything gives."""
    whole = [s for s in recipe.read(Part(path)) if isinstance(s, Structure)]
    pieces = [s for part in parts for s in recipe.read(part) if isinstance(s, Structure)]
    assert len({part.start for part in parts}) > 1, "the test should cut the source"
    assert_same(pieces, whole)
