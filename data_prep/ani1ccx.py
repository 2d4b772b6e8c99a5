"""Convert ANI-1ccx to shards and a manifest.

ANI-1ccx: coupled-cluster energies of 5e5 conformers of ANI-1x
Source: https://doi.org/10.1038/s41597-020-0473-z
Files: ani1x-release.h5 from figshare, 10.6084/m9.figshare.c.4712477.
Level of theory: CCSD(T)*/CBS, ORCA
Licence: CC0-1.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'coordinates', Angstrom
    energy: 'ccsd(t)_cbs.energy', Hartree; NaN: not computed; there are no forces
    total_charge: -, e; not in the file; all molecules are neutral
    spin_multiplicity: -; not in the file; singlets

The group of a structure is its formula. Conformers that have no label at this level are left out. The same file holds
ani1x-tz and ani1ccx, which are other levels of theory: convert each to a data set of its own. That all molecules are
neutral singlets is not stated in the file.

    python data_prep/ani1ccx.py ani1x-release.h5 -o data/ani1ccx
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("ani1ccx", __doc__))
