"""Convert MACE training data to shards and a manifest.

MACE training data: extended XYZ with REF_ names
Files: *.xyz, *.extxyz, also .gz, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'pos', Angstrom
    energy: 'REF_energy', eV; missing where config_energy_weight = 0
    forces: 'REF_forces', eV/Angstrom; missing where config_forces_weight = 0
    stress: 'REF_stress', eV/Angstrom^3; tensile positive; missing where config_stress_weight = 0
    stress: 'REF_virials', eV; divided by -volume; missing where config_virials_weight = 0
    total_charge: 'total_charge, charge', e; contradictions are errors
    spin_multiplicity: 'total_spin, spin_multiplicity, spin'; 2S+1; 0 is not stated

Plain energy, forces and stress are not read, as MACE does not read them by default. Frames of a second 'head' are
refused, because heads are levels of theory: choose one with python data_prep/mace.py --head. Frames with
config_weight = 0 are left out; other weights are not kept. config_type=IsolatedAtom marks isolated atoms.

    python data_prep/mace.py train.xyz -o data/mace
    python data_prep/mace.py train.xyz -o data/r2scan --head r2scan --name r2scan
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import convert_with, parser
from lam.data.recipes.xyz import MACE, mace_with

if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--head", help="convert the frames of this head only")
    args = options.parse_args()
    sys.exit(convert_with(mace_with(args.head) if args.head else MACE, args))
