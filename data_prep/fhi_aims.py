"""Convert FHI-aims to shards and a manifest.

FHI-aims: outputs of single points, relaxations and dynamics
Files: what FHI-aims prints: aims.out, *.out, *.log, also .gz, .bz2, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'Atomic structure; atom', Angstrom
    energy: 'Electronic free energy', eV; in compact form; not the energy 'corrected' to T = 0
    forces: 'Total atomic forces', eV/Angstrom
    stress: 'Analytical (symmetrized) or numerical stress tensor', eV/Angstrom^3; tensile positive
    total_charge: 'a total of ... electrons', e; nuclear charges less these
    spin_multiplicity: 'fixed_spin_moment'; moment + 1 where it was fixed

The group is the calculation. Steps that did not converge are left out with a message. In dynamics the atoms of a step
are printed after it; a last step without them is left out. Where FHI-aims sets forces on constrained atoms to zero,
they are read as they stand.

    python data_prep/fhi_aims.py fhi-aims/ -o data/fhi-aims
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("fhi-aims", __doc__))
