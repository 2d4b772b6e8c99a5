"""Convert sAlex to shards and a manifest.

sAlex: 1e7 steps of Alexandria's relaxations, without matches of WBM
Source: https://doi.org/10.48550/arXiv.2410.12771
Files: data.*.aselmdb, from huggingface.co/datasets/facebook/OMAT24 (sAlex)
Level of theory: PBE and PBE+U, VASP
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    energy: 'free_energy, else energy', eV; total energy
    forces: 'forces', eV/Angstrom
    stress: 'stress', eV/Angstrom^3; xx, yy, zz, yz, xz, xy; tensile positive, as in ASE

Written by fairchem's AseDBDataset tools or ase-db-backends. The number after '#' is the index that fairchem's
get_atoms takes, from 0. Structures of the same formula are one group. Made from Alexandria (10.1002/adma.202210788),
also CC-BY-4.0.

    python data_prep/salex.py salex/ -o data/salex
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("salex", __doc__))
