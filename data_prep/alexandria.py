"""Convert Alexandria to shards and a manifest.

Alexandria: relaxed crystals (5e6) and their relaxation trajectories
Source: https://doi.org/10.1016/j.mtphys.2024.101560
Files: alexandria_000.json.bz2 and the like, or geo_opt_paths/*.json.bz2, from alexandria.icams.rub.de.
Level of theory: PBE, PBEsol or SCAN as the folder of the download says, VASP; +U as in the Materials Project
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'structure', Angstrom; pymatgen's Structure; fractional coordinates count
    energy: 'data.energy_total, else energy', eV; without corrections
    forces: 'forces of the sites, or of the step', eV/Angstrom
    stress: 'data.stress, or of the step', kbar; VASP's sign, compressive positive: times -0.1 GPa
    total_charge: 'structure.charge', e; where it is stated

The group is the material (mat_id). One functional for each folder of the download: convert them apart. 1D and 2D
structures are periodic with vacuum. Keys, unit and sign in the trajectories are those that MACE's and other scripts
read; that the unit of the stress is the same in the entries is not confirmed. sAlexandria (sAlex) comes as ASE LMDB:
recipe salex.

    python data_prep/alexandria.py alexandria/ -o data/alexandria
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("alexandria", __doc__))
