"""What a head needs to know of its data before training: references, scale, coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from lam.data.dataset import MultiTaskDataset
from lam.data.references import ReferenceFit, fit_reference_energies
from lam.data.shards import HAS_ENERGY, HAS_STRESS
from lam.data.stream_columns import read_columns, representative
from lam.data.structure import ISOLATED_ATOM
from lam.errors import LamError
from lam.model import HeadInfo

STATISTICS = 500_000
"""Structures of a data set in shards that its statistics are taken from, at most (about)."""
SMALLEST_ENERGY_SCALE = 0.05
"""Floor of a head's energy scale, eV: data without forces or energy differences still gets one."""


class HeadStatistics(NamedTuple):
    """A head and what its training structures say about it.

    Attributes:
        info: the description for the checkpoint.
        fit: the reference energies.
        force_scale: mean size of the forces over sqrt(8 / pi), eV/Angstrom; 0 without force labels. For normal
            components that is their RMS; a few huge forces (dimers at short range) count less.
    """

    info: HeadInfo
    fit: ReferenceFit
    force_scale: float


def head_statistics(dataset: MultiTaskDataset, index: int) -> HeadStatistics:
    """Collect the statistics of one data set's training structures.

    The energy scale is the larger of the force RMS (times 1 Angstrom) and the residual per atom that
    the reference energies leave.

    Args:
        dataset: the training split.
        index: which of its data sets.

    Raises:
        LamError: if no structure has an energy label.
    """
    spec, shard, rows = dataset.manifest.datasets[index], dataset.shards[index], dataset.rows[index]
    if not len(rows):
        raise LamError(f"The data set '{spec.name}' has no structure to train on.")
    columns = read_columns(shard, representative(shard, rows, STATISTICS))
    masks, compositions, energies = columns.masks, columns.compositions, columns.energies
    labelled = (masks & HAS_ENERGY) > 0
    if not labelled.any():
        raise LamError(f"The data set '{spec.name}' has no energy label, so its head cannot be trained.")
    fit = fit_reference_energies(
        compositions[labelled],
        energies[labelled],
        isolated=_isolated(columns.groups[labelled], compositions[labelled], energies[labelled]),
    )
    forces = columns.forces
    force_rms = float(np.sqrt(np.mean(forces**2))) if len(forces) else 0.0
    force_scale = float(np.linalg.norm(forces, axis=1).mean() / np.sqrt(8 / np.pi)) if len(forces) else 0.0
    periodic = columns.periodic
    present = np.flatnonzero(fit.counts)
    info = HeadInfo(
        name=spec.name,
        level_of_theory=spec.level_of_theory,
        licence=spec.licence,
        source=spec.source,
        elements={chemical_symbols[z]: int(fit.counts[z]) for z in present},
        reference_energies={chemical_symbols[z]: float(fit.energies[z]) for z in present},
        reference_rank=fit.rank,
        # Rounded, so that the scale is the same number in every precision.
        energy_scale=float(np.float32(max(force_rms, fit.residual_rms, SMALLEST_ENERGY_SCALE))),
        n_structures=len(rows),
        periodic=bool(periodic.any()),
        molecular=bool((~periodic).any()),
        has_stress=bool(((masks & HAS_STRESS) > 0).any()),
        # Where nothing is stated the shard reads neutral singlet, which is what is trained on.
        charges=_distinct(columns.total_charges),
        spin_multiplicities=_distinct(columns.spin_multiplicities),
    )
    return HeadStatistics(info, fit, force_scale)


def _isolated(groups: np.ndarray, compositions: np.ndarray, energies: np.ndarray) -> dict[int, float]:
    """Return the energies of isolated atoms that the data states, by atomic number."""
    rows = np.flatnonzero((groups == ISOLATED_ATOM) & (compositions.sum(1) == 1))
    return {int(compositions[row].argmax()): float(energies[row]) for row in rows}


def _distinct(values: np.ndarray) -> list[float]:
    return sorted({float(value) for value in values})
