"""Convert sGDML data sets, of any molecule to shards and a manifest.

Files: *.npz with the arrays R, z, E and F, as sgdml_dataset_from_extxyz.py and others write them.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'R', Angstrom
    energy: 'E', kcal/mol; total energy
    forces: 'F', kcal/mol/Angstrom; forces, not gradients

The group is the file. Units that the file states (e_unit, r_unit) are obeyed; else they are kcal/mol and Angstrom,
which sGDML assumes. Charge and multiplicity are not stated: give them with --metadata. Periodic data sets (with the
array lattice) are refused.

    python data_prep/sgdml.py peptide.npz -o data/sgdml
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("sgdml", __doc__))
