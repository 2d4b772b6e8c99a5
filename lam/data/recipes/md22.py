"""MD22: molecular dynamics of larger molecules and complexes, one .npz file each."""

from __future__ import annotations

from lam.data.recipes.md17 import SGDML, npz_recipe

MD22 = npz_recipe(
    SGDML,
    name="md22",
    title="MD22: molecular dynamics of seven molecules and complexes of 42 to 370 atoms",
    level_of_theory="PBE+MBD, FHI-aims",
    licence="not stated",
    doi="10.1126/sciadv.adf0873",
    files="md22_Ac-Ala3-NHMe.npz and the like from sgdml.org.",
    notes="The group is the file: one trajectory. Units that the file states (e_unit, r_unit) are obeyed. "
    "That all molecules are neutral singlets is not stated in the file.",
)

RECIPES = (MD22,)
