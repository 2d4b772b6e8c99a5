"""Convert ANI-2x to shards and a manifest.

ANI-2x: H, C, N, O, F, S, Cl molecules from active learning (9.7e6 conformers)
Source: https://doi.org/10.1021/acs.jctc.0c00121
Files: final_h5/ANI-2x-wB97X-631Gd.h5 (in a .tar.gz) from Zenodo, 10.5281/zenodo.10108942.
Level of theory: wB97X/6-31G(d), Gaussian 09
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'coordinates', Angstrom
    energy: 'energies', Hartree
    forces: 'forces', Hartree/Angstrom; forces, not gradients
    total_charge: -, e; not in the file; all molecules are neutral
    spin_multiplicity: -; not in the file; singlets

One group of the file for each number of atoms; the group of a structure is its formula. Files of the same release at
other levels of theory (wB97M, B97-3c) have the same form: convert them to data sets of their own; whether their
energies hold the D3 or VV10 corrections, which stand beside them, is not confirmed. That all molecules are neutral
singlets is not stated in the file.

    python data_prep/ani2x.py ANI-2x-wB97X-631Gd.h5 -o data/ani2x
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("ani2x", __doc__))
