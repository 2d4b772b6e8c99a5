"""Convert QM7-X to shards and a manifest.

QM7-X: 6950 molecules of up to seven heavy atoms, 4.2e6 structures (H, C, N, O, S, Cl)
Source: https://doi.org/10.1038/s41597-021-00812-2
Files: 1000.hdf5 to 8000.hdf5 (unpacked from 1000.xz to 8000.xz) from Zenodo, 10.5281/zenodo.4288677; DupMols.dat
    beside them, if it is there, says which equilibrium structures are duplicates.
Level of theory: PBE0+MBD, FHI-aims, tight
Licence: CC-BY-4.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'atXYZ', Angstrom
    energy: 'ePBE0+MBD', eV; total energy; eAT is not read
    forces: 'totFOR', eV/Angstrom; PBE0+MBD, net force and torque removed by the authors
    total_charge: -, e; not in the file; all molecules are neutral
    spin_multiplicity: -; not in the file; singlets

The group is the molecule (idmol), with all its isomers and conformers. Duplicates that DupMols.dat lists are left out
with their displaced structures. That all molecules are neutral singlets is not stated in the file.

    python data_prep/qm7x.py qm7x/ -o data/qm7x
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("qm7x", __doc__))
