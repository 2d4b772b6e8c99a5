"""Convert Extended XYZ with plain or REF_ names to shards and a manifest.

Files: *.extxyz, *.xyz, *.exyz, also .gz, .xz, .zst.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'pos', Angstrom
    energy: 'REF_energy, free_energy, energy', eV; the first that is there; free before extrapolated
    forces: 'REF_forces, forces', eV/Angstrom
    stress: 'REF_stress, stress', eV/Angstrom^3; tensile positive, as in ASE
    stress: 'REF_virials, REF_virial, virials, virial', eV; divided by -volume
    total_charge: 'total_charge, charge', e; contradictions are errors
    spin_multiplicity: 'spin_multiplicity, spin, total_spin'; 2S+1; 0 is not stated

Units are not converted: what is not in eV and Angstrom must be before. The group is 'group', else 'config_type', else
the formula.

    python data_prep/extxyz.py train.extxyz -o data/extxyz
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("extxyz", __doc__))
