"""Convert ANI-1x at wB97X/def2-TZVPP (4.6e6 conformers) to shards and a manifest.

Source: https://doi.org/10.1038/s41597-020-0473-z
Files: ani1x-release.h5 from figshare, 10.6084/m9.figshare.c.4712477.
Level of theory: wB97X/def2-TZVPP, ORCA
Licence: CC0-1.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'coordinates', Angstrom
    energy: 'wb97x_tz.energy', Hartree; NaN: not computed
    forces: 'wb97x_tz.forces', Hartree/Angstrom; forces, not gradients; NaN: not computed
    total_charge: -, e; not in the file; all molecules are neutral
    spin_multiplicity: -; not in the file; singlets

The group of a structure is its formula. Conformers that have no label at this level are left out. The same file holds
ani1x-tz and ani1ccx, which are other levels of theory: convert each to a data set of its own. That all molecules are
neutral singlets is not stated in the file.

    python data_prep/ani1x_tz.py ani1x-release.h5 -o data/ani1x-tz
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("ani1x-tz", __doc__))
