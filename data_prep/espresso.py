"""Convert Quantum ESPRESSO to shards and a manifest.

Quantum ESPRESSO: outputs of pw.x (scf, relax, vc-relax, md)
Files: what pw.x prints: *.out, *.pwo, *.log, also .gz, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'site list; ATOMIC_POSITIONS', alat, Bohr, Angstrom or crystal, as stated there
    energy: '! total energy', Ry; with smearing this is the free energy F = E - TS
    forces: 'Forces acting on atoms', Ry/Bohr; the first block: the total
    stress: 'total stress', Ry/Bohr^3; positive under compression: the sign is turned
    total_charge: 'number of electrons', e; valence electrons of the pseudopotentials less these
    spin_multiplicity: '(up: , down: )'; difference + 1, where pw.x prints both

The group is the calculation. Steps whose convergence was not achieved are left out with a message; so is a step that
is cut off at the end of the file.

    python data_prep/espresso.py espresso/ -o data/espresso
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("espresso", __doc__))
