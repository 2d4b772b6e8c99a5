"""Convert MD17 to shards and a manifest.

MD17: molecular dynamics of ten small molecules
Source: https://doi.org/10.1126/sciadv.1603015
Files: md17_aspirin.npz and the like (or *_dft.npz, *_ccsd*.npz) from sgdml.org.
Level of theory: PBE+TS, FHI-aims; CCSD or CCSD(T) where the name of the file says so
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'R', Angstrom
    energy: 'E', kcal/mol; total energy
    forces: 'F', kcal/mol/Angstrom; forces, not gradients
    total_charge: -, e; not in the file; all molecules are neutral
    spin_multiplicity: -; not in the file; singlets

The group is the file: one trajectory. Units that the file states (e_unit, r_unit) are obeyed. The original PBE labels
are noisy: prefer rmd17. CCSD and CCSD(T) files are other levels of theory: convert them apart.

    python data_prep/md17.py md17_aspirin.npz -o data/md17
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("md17", __doc__))
