"""Convert Open Catalyst 2022 to shards and a manifest.

Open Catalyst 2022: relaxations of oxide surfaces with adsorbates
Source: https://doi.org/10.1021/acscatal.2c05426
Files: *.aselmdb, or the trajectories as extxyz
Level of theory: PBE+U, spin-polarised, VASP
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    energy: 'free_energy, else energy', eV; total energy
    forces: 'forces', eV/Angstrom; also of atoms that were held fixed

Total energies. The LMDB files of the first release (s2ef_total_train_val_test_lmdbs.tar.gz) hold pickled objects and
are refused.

    python data_prep/oc22.py oc22/ -o data/oc22
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("oc22", __doc__))
