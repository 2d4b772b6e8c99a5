"""Convert Revised MD17 to shards and a manifest.

Revised MD17: ten small molecules, labels computed anew with tight settings (1e5 frames each)
Source: https://doi.org/10.1088/2632-2153/abba6f
Files: rmd17_aspirin.npz and the like, in the folder npz_data of rmd17.tar.bz2 on figshare,
    10.6084/m9.figshare.12672038.
Level of theory: PBE/def2-SVP, ORCA, very tight SCF and grid
Licence: CC0-1.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'coords', Angstrom
    energy: 'energies', kcal/mol; total energy
    forces: 'forces', kcal/mol/Angstrom; forces, not gradients
    total_charge: -, e; not in the file; all molecules are neutral
    spin_multiplicity: -; not in the file; singlets

The group is the file: one trajectory, whose frames are not in order of time (old_indices). The authors warn against
training on more than 1000 frames of one molecule: test frames are correlated.

    python data_prep/rmd17.py rmd17/npz_data/ -o data/rmd17
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("rmd17", __doc__))
