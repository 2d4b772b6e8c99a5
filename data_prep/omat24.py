"""Convert Open Materials 2024 to shards and a manifest.

Open Materials 2024: 1e8 rattled, relaxed and hot inorganic crystals
Source: https://doi.org/10.48550/arXiv.2410.12771
Files: folders of data.*.aselmdb (rattled-1000, aimd-from-PBE-1000-npt, ...), from
    huggingface.co/datasets/facebook/OMAT24
Level of theory: PBE and PBE+U, VASP
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    energy: 'free_energy, else energy', eV; total energy
    forces: 'forces', eV/Angstrom
    stress: 'stress', eV/Angstrom^3; xx, yy, zz, yz, xz, xy; tensile positive, as in ASE

Written by fairchem's AseDBDataset tools or ase-db-backends. The number after '#' is the index that fairchem's
get_atoms takes, from 0. Structures of the same formula are one group. Energies are not compatible with those of the
Materials Project: other pseudopotentials.

    python data_prep/omat24.py omat24/ -o data/omat24
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("omat24", __doc__))
