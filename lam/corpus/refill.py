"""Structures in place of those that could not be labelled: planned by what is covered among the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lam.corpus.coverage import Coverage
from lam.corpus.plan import Built, Family, build_family

MAX_ATOMS = 16
"""Of structures in place of others: small ones converge more often, and cost little where they do not."""
FIXED = ("molecules", "ions", "droplets", "liquids")
"""Families whose elements are given: more of them would not fill gaps."""


def refill_name(family: str, number: int) -> str:
    """Return the name of what is made in round ``number`` in place of structures of a family."""
    return f"{family}-again{number}"


def lost_labels(family: str, number: int, results: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many structures of the round before have no label; round 1 comes after the plan itself."""
    before = results.get(family if number == 1 else refill_name(family, number - 1))
    return before["structures"] - before["labelled"] if before else 0


def build_refill(family: Family, number: int, count: int, seed: int, labelled: Coverage) -> Built:
    """Build structures of a family, the elements that are least covered among the labels first.

    Args:
        family: of the plan.
        number: of the round, from 1.
        count: how many.
        seed: of the corpus.
        labelled: what is covered; the new structures are counted in it.

    Raises:
        LamError: if the generator finds no more.
    """
    smaller = replace(
        family, name=refill_name(family.name, number), origin=family.name, max_atoms=min(family.max_atoms, MAX_ATOMS)
    )
    return build_family(smaller, count, seed, labelled)
