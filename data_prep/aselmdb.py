"""Convert ASE LMDB, of any data set to shards and a manifest.

Files: *.aselmdb
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    energy: 'free_energy, else energy', eV; total energy
    forces: 'forces', eV/Angstrom
    stress: 'stress', eV/Angstrom^3; xx, yy, zz, yz, xz, xy; tensile positive, as in ASE
    total_charge: 'charge in data', e
    spin_multiplicity: 'spin in data', 2S+1; 0 means not stated

Written by fairchem's AseDBDataset tools or ase-db-backends. The number after '#' is the index that fairchem's
get_atoms takes, from 0. Structures of the same formula are one group. A key 'group' or 'sid' (system) in the row's
data names the group instead.

    python data_prep/aselmdb.py aselmdb/ -o data/aselmdb
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("aselmdb", __doc__))
