"""The recipes by name: which module reads which public data set or format.

Modules are imported when one of their recipes is asked for, so that one with a missing dependency, or a broken
one, does not get into the way of the others. A module holds a tuple ``RECIPES`` of its recipes.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from lam.data.recipes.base import Label, Part, Recipe, attempt, cut, files_with
from lam.data.recipes.detect import detect
from lam.errors import LamError, unknown_name

__all__ = ["MODULES", "Label", "Part", "Recipe", "attempt", "available", "cut", "detect", "files_with", "get"]

MODULES: dict[str, str] = {
    # Public data sets.
    "omat24": "lmdb_ase",
    "salex": "lmdb_ase",
    "oc20": "lmdb_oc",
    "oc20-adsorption": "lmdb_oc",
    "oc22": "lmdb_oc",
    "omol25": "lmdb_ase",
    "mptrj": "mptrj",
    "matpes": "matpes",
    "matpes-pbe": "matpes",
    "matpes-r2scan": "matpes",
    "alexandria": "alexandria",
    "spice2": "spice2",
    "ani1x": "ani",
    "ani1x-tz": "ani",
    "ani1ccx": "ani",
    "ani2x": "ani",
    "transition1x": "transition1x",
    "qm7x": "qm7x",
    "md17": "md17",
    "rmd17": "md17",
    "md22": "md22",
    # Formats.
    "aselmdb": "lmdb_ase",
    "sgdml": "md17",
    "deepmd": "deepmd",
    "deepmd-hdf5": "deepmd",
    "extxyz": "xyz",
    "mace": "xyz",
    "nequip": "xyz",
    # Outputs of calculations.
    "vasp": "vasp",
    "espresso": "espresso",
    "cp2k": "cp2k",
    "abacus": "abacus",
    "fhi-aims": "aims",
    "orca": "orca",
    "gaussian": "gaussian",
}
"""Name of a recipe -> module of this package, in the order of tables."""


def get(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        LamError: for an unknown name (names the nearest), or a recipe whose module is not there.
    """
    if name not in MODULES:
        raise unknown_name("recipe", name, MODULES)
    where = f"lam.data.recipes.{MODULES[name]}"
    try:
        module = import_module(where)
    except ModuleNotFoundError as error:
        if error.name == where:
            raise LamError(f"The recipe '{name}' is not part of this installation of lam.") from None
        raise LamError(f"The recipe '{name}' needs the package '{error.name}', which is not installed.") from None
    recipes = {recipe.name: recipe for recipe in module.RECIPES}
    if name not in recipes:
        raise LamError(f"The recipe '{name}' is not part of this installation of lam.")
    return recipes[name]


def available() -> Iterator[Recipe]:
    """Yield the recipes that can be had here, in the order of :data:`MODULES`."""
    for name in MODULES:
        try:
            yield get(name)
        except LamError:
            continue
