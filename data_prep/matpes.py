"""Convert MatPES to shards and a manifest.

MatPES: static calculations along molecular dynamics at 300 K (4e5 structures)
Source: https://doi.org/10.48550/arXiv.2503.04070
Files: MatPES-PBE-2025.1.json.gz or MatPES-R2SCAN-2025.1.json.gz (or later, also as JSON lines) from matpes.ai.
Level of theory: PBE or r2SCAN as the entries state (one file each), VASP, MatPESStaticSet
Licence: BSD-3-Clause

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'structure', Angstrom; pymatgen's Structure; fractional coordinates count
    energy: 'energy', eV; VASP's e_0_energy, extrapolated to zero smearing
    forces: 'forces', eV/Angstrom
    stress: 'stress', kbar; Voigt xx, yy, zz, yz, xz, xy; VASP's sign, compressive positive
    total_charge: 'structure.charge', e; where it is stated

The group is the Materials Project's structure that the dynamics began from. The energy is extrapolated to zero
smearing and not the free energy that the forces derive from; the file has no other. Entries of a second functional in
one file are refused. The licence is that of the repository; the files state none.

    python data_prep/matpes.py MatPES-PBE-2025.1.json.gz -o data/matpes
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("matpes", __doc__))
