"""Convert SPICE 2 to shards and a manifest.

SPICE 2: molecules, peptides, dimers, ions, water clusters (2.0e6 conformations, 17 elements)
Source: https://doi.org/10.1021/acs.jctc.4c00794
Files: SPICE-2.0.1.hdf5 (or any SPICE release) from Zenodo, 10.5281/zenodo.10975225.
Level of theory: wB97M-D3(BJ)/def2-TZVPPD, Psi4
Licence: CC0-1.0

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'conformations', Bohr
    energy: 'dft_total_energy', Hartree; total energy; formation_energy is not read
    forces: 'dft_total_gradient', Hartree/Bohr; gradient: the sign is turned
    total_charge: 'smiles', e; sum of the formal charges of the SMILES, or a stored charge
    spin_multiplicity: -; 1: all were computed as singlets; not stated for odd electron numbers

The group of a structure is its molecule. Units are checked where the data sets state them. One level of theory
through all subsets. That all were computed as singlets is not stated in the file.

    python data_prep/spice2.py SPICE-2.0.1.hdf5 -o data/spice2
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("spice2", __doc__))
