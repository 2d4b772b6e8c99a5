"""How far a fine-tune moved the old heads, where no pretraining data are at hand to say how much they forgot.

A fixed set of molecules, crystals and a slab, made by ASE and shaken, is predicted by the old heads of the
model before and after. No labels are needed: the question is what changed, not what is right.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from lam import keys
from lam.data.graph import build_graph, collate
from lam.data.structure import Structure
from lam.errors import LamError
from lam.model import Potential


def probe_structures() -> list[Atoms]:
    """Return the structures, displaced by 0.1 Angstrom (RMS of a component), the same every time."""
    crystals = [
        bulk("Cu", cubic=True),
        bulk("Fe", cubic=True).repeat(2),
        bulk("Si", cubic=True),
        bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        bulk("MgO", "rocksalt", a=4.21, cubic=True),
        bulk("GaAs", "zincblende", a=5.65, cubic=True),
        bulk("Ti").repeat((2, 2, 1)),
        fcc111("Pt", (2, 2, 3), vacuum=6.0, periodic=True),
    ]
    molecules = [molecule(name) for name in ("H2O", "CH3CH2OH", "C6H6", "CH3CONH2", "CH3Cl", "SH2")]
    structures = [*crystals, *molecules]
    for seed, atoms in enumerate(structures):
        atoms.set_initial_magnetic_moments(None)
        atoms.rattle(0.1, seed=seed)
    return structures


def drift_of_old_heads(before: Potential, after: Potential) -> float | None:
    """Return the mean change of the old heads' forces on the probes, relative to their mean size.

    Args:
        before: the model that was tuned.
        after: the result, which has the heads of ``before`` under their names.

    Returns:
        0 if nothing changed; None if no head covers any of the probes.
    """
    change = size = 0.0
    for atoms in probe_structures():
        try:
            head = before.head_names[before.choose_head(atoms.numbers, atoms.pbc)]
        except LamError:
            continue
        old, new = (_forces(model, atoms, head) for model in (before, after))
        change += float(np.abs(new - old).sum())
        size += float(np.abs(old).sum())
    return change / size if size else None


def _forces(model: Potential, atoms: Atoms, head: str) -> np.ndarray:
    structure = Structure.from_atoms(copy.copy(atoms))
    batch = collate([build_graph(structure, cutoff=model.cutoff, task=model.head_index(head))])
    with torch.no_grad():
        return model(batch, stress=False)[keys.FORCES].numpy()
