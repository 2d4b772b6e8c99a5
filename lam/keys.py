"""Every tensor key of `lam`, with its shape, unit and meaning. No other module spells one out.

Shapes: ``N`` atoms, ``E`` directed edges and ``G`` structures (graphs) of a batch.

Conventions
-----------
* Units: eV, Angstrom, eV/Angstrom, eV/Angstrom^3, elementary charges.
* Cell rows are lattice vectors (ASE).
* ``edge_index[0]`` is the **source** (neighbour, sender ``j``), ``edge_index[1]`` the **target**
  (centre, receiver ``i``), as in PyTorch Geometric. Edges are sorted by centre.
* The edge vector points from centre to neighbour: ``r_ij = positions[j] + shift @ cell - positions[i]``.
* Stress is (1/V) dE/d(strain), positive when tensile (ASE's sign); virial = -V * stress.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Key(NamedTuple):
    """One entry of the registry: who carries the tensor, its shape, unit and meaning."""

    level: str  # "graph", "node" or "edge": along which axis structures are concatenated
    shape: str
    unit: str
    meaning: str


# -- input -----------------------------------------------------------------------------------
POSITIONS: Final = "positions"
ATOMIC_NUMBERS: Final = "atomic_numbers"
CELL: Final = "cell"
PBC: Final = "pbc"
TOTAL_CHARGE: Final = "total_charge"
SPIN_MULTIPLICITY: Final = "spin_multiplicity"
TASK: Final = "task"
N_ATOMS: Final = "n_atoms"
BATCH: Final = "batch"
EDGE_INDEX: Final = "edge_index"
EDGE_SHIFT: Final = "edge_shift"
STRUCTURE_ID: Final = "structure_id"

# -- labels and their masks ------------------------------------------------------------------
LABEL_ENERGY: Final = "label_energy"
LABEL_FORCES: Final = "label_forces"
LABEL_STRESS: Final = "label_stress"
MASK_ENERGY: Final = "mask_energy"
MASK_FORCES: Final = "mask_forces"
MASK_STRESS: Final = "mask_stress"

# -- output ----------------------------------------------------------------------------------
ENERGY: Final = "energy"
ATOM_ENERGIES: Final = "atom_energies"
FORCES: Final = "forces"
STRESS: Final = "stress"

KEYS: Final[dict[str, Key]] = {
    POSITIONS: Key("node", "(N, 3)", "Angstrom", "Cartesian positions"),
    ATOMIC_NUMBERS: Key("node", "(N,)", "1", "atomic numbers Z, int64"),
    CELL: Key("graph", "(G, 3, 3)", "Angstrom", "lattice vectors as rows; zeros where not periodic"),
    PBC: Key("graph", "(G, 3)", "bool", "periodic along each lattice vector?"),
    TOTAL_CHARGE: Key("graph", "(G,)", "e", "total charge of the structure"),
    SPIN_MULTIPLICITY: Key("graph", "(G,)", "1", "spin multiplicity 2S+1; 1 is a singlet"),
    TASK: Key("graph", "(G,)", "1", "which head (task) predicts or labelled the structure, int64"),
    N_ATOMS: Key("graph", "(G,)", "1", "number of atoms of each structure, int64"),
    BATCH: Key("node", "(N,)", "1", "structure that each atom belongs to, int64"),
    EDGE_INDEX: Key("edge", "(2, E)", "1", "row 0 neighbour (source), row 1 centre (target), int64"),
    EDGE_SHIFT: Key("edge", "(E, 3)", "1", "lattice shift of the neighbour, whole numbers as floats"),
    STRUCTURE_ID: Key("graph", "(G,)", "1", "row of the structure in its data set, int64"),
    LABEL_ENERGY: Key("graph", "(G,)", "eV", "reference total energy, float64"),
    LABEL_FORCES: Key("node", "(N, 3)", "eV/Angstrom", "reference forces"),
    LABEL_STRESS: Key("graph", "(G, 3, 3)", "eV/Angstrom^3", "reference stress, tensile positive"),
    MASK_ENERGY: Key("graph", "(G,)", "bool", "is the energy label there? (a missing label reads 0)"),
    MASK_FORCES: Key("graph", "(G,)", "bool", "are the force labels there?"),
    MASK_STRESS: Key("graph", "(G,)", "bool", "is the stress label there?"),
    ENERGY: Key("graph", "(G,)", "eV", "predicted total energy, always float64"),
    ATOM_ENERGIES: Key("node", "(N,)", "eV", "predicted energy of each atom, sums to the total, float64"),
    FORCES: Key("node", "(N, 3)", "eV/Angstrom", "minus the gradient of the energy"),
    STRESS: Key("graph", "(G, 3, 3)", "eV/Angstrom^3", "(1/V) dE/d(strain); zero unless 3D-periodic"),
}
