"""Convert Open Molecules 2025 to shards and a manifest.

Open Molecules 2025: 1e8 organic and inorganic molecules, complexes and electrolytes
Source: https://doi.org/10.48550/arXiv.2505.08762
Files: folders of data*.aselmdb (train_4M, train, val, neutral_train, ...), from huggingface.co/facebook/OMol25
Level of theory: wB97M-V/def2-TZVPD, ORCA 6
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    energy: 'free_energy, else energy', eV; total energy
    forces: 'forces', eV/Angstrom
    total_charge: 'charge in data', e
    spin_multiplicity: 'spin in data', 2S+1; 0 means not stated

Written by fairchem's AseDBDataset tools or ase-db-backends. The number after '#' is the index that fairchem's
get_atoms takes, from 0. Structures of the same formula are one group. Charge and spin multiplicity are stated for
every molecule.

    python data_prep/omol25.py omol25/ -o data/omol25
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("omol25", __doc__))
