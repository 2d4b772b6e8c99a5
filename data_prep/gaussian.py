"""Convert Gaussian to shards and a manifest.

Gaussian: logs of single points, force calculations and optimisations
Files: what Gaussian prints (*.log, *.out), or *.fchk; also .gz, .bz2, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'Input orientation; Standard orientation', Angstrom; Bohr in .fchk
    energy: 'SCF Done; EUMP2, CCSD(T), E(CORR); Total Energy', Hartree; the last of them: that of the forces
    forces: 'Forces (Hartrees/Bohr); Cartesian Gradient', Hartree/Bohr; forces; the gradient of .fchk is turned
    total_charge: 'Charge', e
    spin_multiplicity: 'Multiplicity'; 2S+1

The group is the calculation. Where only the standard orientation is printed, the forces are in other axes than the
atoms: then the Cartesian coordinates of the input are taken, or, if the log does not echo them and symmetry was not
off (nosymm), the forces are left out. A .fchk file holds the last geometry only; of a folder that holds both, the
logs are read. Geometries whose SCF did not converge are left out with a message.

    python data_prep/gaussian.py gaussian/ -o data/gaussian
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("gaussian", __doc__))
