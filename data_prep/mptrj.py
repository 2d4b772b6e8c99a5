"""Convert MPtrj to shards and a manifest.

MPtrj: relaxations and static calculations of the Materials Project (1.58e6 frames)
Source: https://doi.org/10.1038/s42256-023-00716-3
Files: MPtrj_2022.9_full.json from figshare, 10.6084/m9.figshare.23713842.
Level of theory: PBE and PBE+U as the Materials Project mixes them, VASP
Licence: MIT

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'structure', Angstrom; pymatgen's Structure; fractional coordinates count
    energy: 'uncorrected_total_energy', eV; VASP's total; corrected_total_energy is not read
    forces: 'force', eV/Angstrom
    stress: 'stress', kbar; VASP's sign, compressive positive: times -0.1 GPa
    total_charge: 'structure.charge', e; where it is stated

The group is the material (mp-id). corrected_total_energy and energy_per_atom carry the MP2020 corrections, constants
by composition: the uncorrected energy is read instead. It is VASP's energy extrapolated to zero smearing (e_0_energy
in CHGNet's own parser), which differs from the free energy of the forces by half the entropy term, in metals. magmom
and bandgap are not read.

    python data_prep/mptrj.py MPtrj_2022.9_full.json -o data/mptrj
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("mptrj", __doc__))
