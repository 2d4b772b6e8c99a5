"""Convert MD22 to shards and a manifest.

MD22: molecular dynamics of seven molecules and complexes of 42 to 370 atoms
Source: https://doi.org/10.1126/sciadv.adf0873
Files: md22_Ac-Ala3-NHMe.npz and the like from sgdml.org.
Level of theory: PBE+MBD, FHI-aims
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'R', Angstrom
    energy: 'E', kcal/mol; total energy
    forces: 'F', kcal/mol/Angstrom; forces, not gradients
    total_charge: -, e; not in the file; all molecules are neutral
    spin_multiplicity: -; not in the file; singlets

The group is the file: one trajectory. Units that the file states (e_unit, r_unit) are obeyed. That all molecules are
neutral singlets is not stated in the file.

    python data_prep/md22.py md22_DHA.npz -o data/md22
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("md22", __doc__))
