"""Convert ABACUS to shards and a manifest.

ABACUS: running_scf.log, running_relax.log, running_cell-relax.log, running_md.log with MD_dump
Files: the folder OUT.* of a calculation; of dynamics also MD_dump in it.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'COORDINATES; MD_dump', fractional, lattice constants or Angstrom, as stated there
    energy: 'final etot is; #TOTAL ENERGY#; !FINAL_ETOT_IS', eV; with smearing the free energy
    forces: 'TOTAL-FORCE', eV/Angstrom
    stress: 'TOTAL-STRESS; VIRIAL of MD_dump', kbar; positive under compression: the sign is turned
    total_charge: 'nelec_delta, nelec of INPUT', e; minus the electrons added, where one is set
    spin_multiplicity: 'nupdown of INPUT'; nupdown + 1 where it is set

The group is the calculation. Steps that did not converge are left out with a message. The form of the log is the one
that dpdata reads; the sign of the stress is that of the pressure printed below it. The steps of MD_dump are found in
the log by their numbers.

    python data_prep/abacus.py abacus/ -o data/abacus
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("abacus", __doc__))
