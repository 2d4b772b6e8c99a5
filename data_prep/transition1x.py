"""Convert Transition1x to shards and a manifest.

Transition1x: configurations along 1e4 organic reaction paths (9.6e6, H, C, N, O)
Source: https://doi.org/10.1038/s41597-022-01870-w
Files: Transition1x.h5 from figshare, 10.6084/m9.figshare.19614657.
Level of theory: wB97X/6-31G(d), ORCA
Licence: MIT

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'positions', Angstrom
    energy: 'wB97x_6-31G(d).energy', eV; total energy; .atomization_energy is not read
    forces: 'wB97x_6-31G(d).forces', eV/Angstrom
    total_charge: -, e; not in the file; all reactions are neutral
    spin_multiplicity: -; not in the file; singlets

The group is the formula, not the reaction: many reactions share their reactant. The group 'data' holds all reactions,
'train', 'val' and 'test' link to them and are not read again. The transition state is among the configurations of its
reaction and is not read twice. That all are neutral singlets is not stated in the file.

    python data_prep/transition1x.py Transition1x.h5 -o data/transition1x
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("transition1x", __doc__))
