"""Convert NequIP and Allegro training data to shards and a manifest.

NequIP and Allegro training data: extended XYZ
Files: *.xyz, *.extxyz, also .gz, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'pos', Angstrom
    energy: 'total_energy, free_energy, energy', eV
    forces: 'forces', eV/Angstrom
    stress: 'stress', eV/Angstrom^3; tensile positive, as in ASE
    stress: 'virial', eV; divided by -volume
    total_charge: 'total_charge, charge', e; contradictions are errors
    spin_multiplicity: 'spin_multiplicity, spin, total_spin'; 2S+1; 0 is not stated

Other names, as in NequIP's key_mapping: python data_prep/nequip.py --key NAME=total_energy. NequIP trains on ASE's
'energy' where a frame also has 'free_energy'; here the free energy is read, because forces are its derivatives.

    python data_prep/nequip.py train.xyz -o data/nequip
    python data_prep/nequip.py train.xyz -o data/nequip --key my_energy=total_energy --key my_forces=forces
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import convert_with, parser
from lam.data.recipes.xyz import NEQUIP, nequip_with

if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--key", action="append", default=[], metavar="NAME=LABEL", help="as in NequIP's key_mapping")
    args = options.parse_args()
    if wrong := [key for key in args.key if "=" not in key]:
        options.error(f"--key {wrong[0]} should be NAME=LABEL, e.g. my_energy=total_energy")
    mapping = dict(key.split("=", 1) for key in args.key)
    sys.exit(convert_with(nequip_with(mapping) if mapping else NEQUIP, args))
