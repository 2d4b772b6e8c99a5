"""Convert Open Catalyst 2020 with adsorption energies to shards and a manifest.

Open Catalyst 2020 with adsorption energies: less the reference energy in the .txt file
Source: https://doi.org/10.1021/acscatal.0c04525
Files: s2ef_train_*.tar or s2ef_val_*.tar (0.extxyz.xz with 0.txt.xz, ...), as they are; or *.aselmdb
Level of theory: RPBE, VASP
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    energy: 'energy, less the third field of the .txt file', eV; adsorption energy
    forces: 'forces', eV/Angstrom; also of atoms that were held fixed

The reference is that of the clean surface and gas-phase molecules; as in fairchem, it is taken off the energy
extrapolated to zero smearing, some meV off the free energy of the forces. Only for the S2EF extxyz files.

    python data_prep/oc20_adsorption.py oc20-adsorption/ -o data/oc20-adsorption
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("oc20-adsorption", __doc__))
