"""Convert VASP to shards and a manifest.

VASP: vasprun.xml or OUTCAR of relaxations, dynamics and single points
Files: vasprun.xml or OUTCAR, also .gz, .bz2, .xz, .zst; of both in one folder the xml, which has more digits.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'positions', fractional in vasprun.xml, Angstrom in OUTCAR
    energy: 'e_fr_energy; free energy TOTEN', eV; free energy, not energy(sigma->0); without the P V of PSTRESS
    forces: 'forces; TOTAL-FORCE', eV/Angstrom
    stress: 'stress; in kB', kbar; compressive positive: the sign is turned; OUTCAR's order xy, yz, zx
    total_charge: 'NELECT', e; valence electrons of the potentials less NELECT
    spin_multiplicity: 'NUPDOWN'; NUPDOWN + 1 where it was fixed

The group is the calculation. Ionic steps whose electronic steps did not converge are left out with a message: those
that took NELM steps (VASP 5 says 'EDIFF is reached' of them, too), and those of which VASP 6 says so. Steps of a
machine-learned force field (ML_LMLFF) are left out. A step that is cut off at the end of the file is left out. The
energy of dynamics is without the kinetic energy. With PSTRESS, vasprun.xml holds the enthalpy: P V is subtracted; the
stress is without PSTRESS. Stresses are left out with ISIF = 0 or 1, and calculations with fixed charge density
(ICHARG >= 10), with a message.

    python data_prep/vasp.py vasp/ -o data/vasp
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("vasp", __doc__))
