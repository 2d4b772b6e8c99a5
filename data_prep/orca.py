"""Convert ORCA to shards and a manifest.

ORCA: outputs of single points and optimisations
Files: what ORCA prints (*.out, *.log), or *.engrad; also .gz, .bz2, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'CARTESIAN COORDINATES (ANGSTROEM)', Angstrom; Bohr in .engrad
    energy: 'FINAL SINGLE POINT ENERGY', Hartree; with dispersion and other corrections, as the gradient has them
    forces: 'CARTESIAN GRADIENT', Hartree/Bohr; gradient: the sign is turned
    total_charge: 'Total Charge', e
    spin_multiplicity: 'Multiplicity'; 2S+1

The group is the calculation. Geometries without an energy are left out, and those whose SCF did not converge, with a
message. Of a folder that holds both, the printed outputs are read; charge and multiplicity of an .engrad file are
those of the .inp file of its name. Not read through cclib, whose energy leaves out the dispersion correction.

    python data_prep/orca.py orca/ -o data/orca
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("orca", __doc__))
