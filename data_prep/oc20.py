"""Convert Open Catalyst 2020 to shards and a manifest.

Open Catalyst 2020: 1.3e8 steps of relaxations of adsorbates on surfaces
Source: https://doi.org/10.1021/acscatal.0c04525
Files: s2ef_train_*.tar or s2ef_val_*.tar (0.extxyz.xz with 0.txt.xz, ...), as they are; or *.aselmdb
Level of theory: RPBE, VASP
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    energy: 'free_energy, else energy', eV; total energy
    forces: 'forces', eV/Angstrom; also of atoms that were held fixed

Total energies; 'oc20-adsorption' subtracts the reference energy of each system. All frames of a system are one group.
The LMDB files made by fairchem's preprocess_ef.py hold pickled objects and are refused.

    python data_prep/oc20.py oc20/ -o data/oc20
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("oc20", __doc__))
