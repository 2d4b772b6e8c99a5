"""Convert Quantum ESPRESSO to shards and a manifest.

Quantum ESPRESSO: outputs and XML files of pw.x (scf, relax, vc-relax, md)
Files: what pw.x prints (*.out, *.pwo, *.log), or prefix.xml (data-file-schema.xml); also .gz, .bz2, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'site list, ATOMIC_POSITIONS; atomic_structure', as stated there; Bohr in XML
    energy: '! total energy; etot', Ry; Hartree in XML; with smearing the free energy F = E - TS
    forces: 'Forces acting on atoms; forces', Ry/Bohr; Hartree/Bohr in XML; the first block: the total
    stress: 'total stress; stress', Ry/Bohr^3; Hartree/Bohr^3 in XML; positive under compression: the sign is turned
    total_charge: 'number of electrons; tot_charge', e; valence electrons of the atoms less these
    spin_multiplicity: '(up: , down: ); tot_magnetization'; difference + 1, where it was fixed

The group is the calculation. Steps whose convergence was not achieved are left out with a message; so are outputs of
nscf and bands, and a step that is cut off at the end of the file. Of a folder that holds both, the printed outputs
are read.

    python data_prep/espresso.py espresso/ -o data/espresso
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("espresso", __doc__))
