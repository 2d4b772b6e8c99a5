"""Convert DeePMD systems as folders of .npy files, plain or of mixed type to shards and a manifest.

Files: folders with type.raw, type_map.raw and set.*/*.npy, as deepmd-kit and dpdata write them.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'coord.npy', Angstrom
    energy: 'energy.npy', eV
    forces: 'force.npy', eV/Angstrom
    stress: 'virial.npy', eV; virial, compressive positive: divided by -volume
    total_charge: 'charge_spin.npy', e; first column, where the file is there
    spin_multiplicity: 'charge_spin.npy'; second column, 2S+1; 0 is not stated

The group is the folder; for mixed type it is the formula. Frame parameters (fparam.npy) have no common meaning and
are not read: a charge that stands there is lost; so are the moments of atoms (spin.npy, force_mag.npy), with a
message. Data in single precision carry errors of up to 1e-7 of the total energy.

    python data_prep/deepmd.py systems/ -o data/deepmd
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("deepmd", __doc__))
