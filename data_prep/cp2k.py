"""Convert CP2K to shards and a manifest.

CP2K: outputs of single points, and -pos-/-frc- trajectories of dynamics and relaxations
Files: what CP2K prints (*.out, *.log), or NAME-pos-1.xyz with NAME-frc-1.xyz and NAME-1.cell, or with the output.
Level of theory: not stated
Licence: not stated

Labels (what it becomes: key in the source, unit, sign or meaning):

    positions: 'ATOMIC COORDINATES; NAME-pos-1.xyz', Angstrom (or Bohr, as the heading says)
    energy: 'ENERGY| Total FORCE_EVAL; E =', Hartree; total, with the electronic entropy
    forces: 'ATOMIC FORCES; FORCES|; NAME-frc-1.xyz', Hartree/Bohr
    stress: 'STRESS TENSOR; STRESS|', GPa or bar; positive under compression: the sign is turned
    total_charge: 'DFT| Charge', e
    spin_multiplicity: 'DFT| Multiplicity'; 2S+1; 0 is not stated

The group is the calculation. An output gives only geometries that it prints: for dynamics, use the trajectory, with
NAME-frc-1.xyz or forces in the output beside it; the steps of both are matched by their energies. That these are free
energies with smearing is not confirmed. Steps whose SCF did not converge, as the output says, are left out with a
message. Outputs give cells with three decimals, NAME-1.cell with more; where the cell changes, it is needed. The
.stress file is not read.

    python data_prep/cp2k.py cp2k/ -o data/cp2k
"""

from __future__ import annotations

import sys

from lam.data.recipes.script import script

if __name__ == "__main__":
    sys.exit(script("cp2k", __doc__))
