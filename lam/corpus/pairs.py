"""Dimers and trimers of any elements over distance: what a potential must know of short range."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from lam.corpus.context import Context
from lam.corpus.elements import ALL
from lam.corpus.sample import Sample

NEAREST, FARTHEST = 0.6, 2.6
"""Distances over the sum of covalent radii."""


def dimers(context: Context) -> Iterator[Sample]:
    """Yield the least covered pairs of elements, also of one element, at some distances from close to far."""
    random = context.random
    while True:
        first, second = context.coverage.choose([ALL, ALL], random, repeat=True)
        count = 2 * context.copies
        # One distance in each of equal parts of the range, more of them at short range.
        parts = (np.arange(count) + random.random(count)) / count
        for part in parts:
            ratio = NEAREST + (FARTHEST - NEAREST) * part**1.5
            length = ratio * (covalent_radii[first] + covalent_radii[second])
            yield Sample(Atoms([first, second], [(0, 0, 0), (0, 0, length)]), "dimer", _name(first, second), close=True)


def trimers(context: Context) -> Iterator[Sample]:
    """Yield three planned elements at any angle, two of the distances from close to far."""
    random = context.random
    while True:
        elements = context.coverage.choose([ALL] * 3, random, repeat=True)
        for _ in range(context.copies):
            radii = covalent_radii[elements]
            ratios = NEAREST + 0.1 + (2.0 - NEAREST) * random.random(2) ** 1.5
            arms = ratios * (radii[0] + radii[1:])
            angle = np.arccos(random.uniform(-1, 0.5))
            places = [(0, 0, 0), (arms[0], 0, 0), (arms[1] * np.cos(angle), arms[1] * np.sin(angle), 0)]
            if np.linalg.norm(np.subtract(places[1], places[2])) > NEAREST * (radii[1] + radii[2]):
                yield Sample(Atoms(elements, places), "trimer", _name(*elements), close=True)


def _name(*elements: int) -> str:
    return Atoms(sorted(elements)).get_chemical_formula()
