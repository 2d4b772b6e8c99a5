"""Upgrades of the JSON of old checkpoints, one small function per format version.

``UPGRADES[n]`` takes the plain values of a version ``n`` file and returns those of version ``n + 1``.
A checkpoint once released loads for ever: add a function here, never change an existing one, and keep
a file of the old version among the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: dict[int, Upgrade] = {}


def upgrade(values: dict[str, Any], *, to: int, upgrades: Mapping[int, Upgrade] | None = None) -> dict[str, Any]:
    """Return ``values`` of a checkpoint's JSON, brought step by step to format version ``to``.

    Args:
        values: plain values; ``format_version`` must be a whole number from 1 to ``to``.
        to: the version wanted.
        upgrades: the functions, by default :data:`UPGRADES`.
    """
    upgrades = UPGRADES if upgrades is None else upgrades
    for version in range(values["format_version"], to):
        values = {**upgrades[version](values), "format_version": version + 1}
    return values
