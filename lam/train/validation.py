"""Errors of each data set while training, summed over batches and processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from ase.data import chemical_symbols
from torch import Tensor

from lam import keys
from lam.data.structure import MAX_ATOMIC_NUMBER
from lam.train.processes import sum_over_processes

SMALL_FORCES = 0.05
"""Mean absolute force component, eV/Angstrom, below which zero is hard to beat and sets are apart."""
_COLUMNS = (
    "energy_error",
    "energy_square",
    "energies",
    "force_error",
    "force_square",
    "force_size",
    "components",
    "stress_error",
    "stresses",
)


class ErrorSums:
    """Absolute and squared errors per head: energy per atom (eV), force components (eV/A), stress (eV/A^3).

    Args:
        heads: names of the heads.
    """

    def __init__(self, heads: Sequence[str]) -> None:
        self.heads = list(heads)
        self.reset(torch.device("cpu"))

    def reset(self, device: torch.device) -> None:
        """Start anew."""
        self.sums = torch.zeros(len(self.heads), len(_COLUMNS), dtype=torch.float64, device=device)
        self.by_element = torch.zeros(MAX_ATOMIC_NUMBER + 1, 2, dtype=torch.float64, device=device)

    def sum_over_processes(self) -> None:
        """Add what the other processes have."""
        sum_over_processes(self.sums)
        sum_over_processes(self.by_element)

    def add(self, output: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
        """Add the errors of a batch."""
        size = batch[keys.N_ATOMS].double()
        has_energy, has_stress = batch[keys.MASK_ENERGY].double(), batch[keys.MASK_STRESS].double()
        has_forces = batch[keys.MASK_FORCES].double()
        energy = (output[keys.ENERGY] - batch[keys.LABEL_ENERGY]).abs() / size
        force_error = (output[keys.FORCES] - batch[keys.LABEL_FORCES]).double()
        per_atom = torch.stack(
            [
                force_error.abs().sum(1),
                force_error.square().sum(1),
                batch[keys.LABEL_FORCES].double().abs().sum(1),
            ],
            dim=1,
        )
        per_graph = per_atom.new_zeros(len(size), 3).index_add(0, batch[keys.BATCH], per_atom)
        stress = (output[keys.STRESS] - batch[keys.LABEL_STRESS]).double().abs().flatten(1).sum(1)
        rows = torch.stack(
            [
                energy * has_energy,
                energy.square() * has_energy,
                has_energy,
                per_graph[:, 0] * has_forces,
                per_graph[:, 1] * has_forces,
                per_graph[:, 2] * has_forces,
                3.0 * size * has_forces,
                stress * has_stress,
                9.0 * has_stress,
            ],
            dim=1,
        )
        self.sums.index_add_(0, batch[keys.TASK], rows)
        labelled = has_forces[batch[keys.BATCH]]
        atoms = torch.stack([per_atom[:, 0] * labelled, 3.0 * labelled], dim=1)
        self.by_element.index_add_(0, batch[keys.ATOMIC_NUMBERS], atoms)

    def summary(self) -> dict[str, float]:
        """Return errors per head, and the median force error relative to predicting zero forces."""
        values: dict[str, float] = {}
        ratios = []
        for head, row in zip(self.heads, self.sums.tolist(), strict=True):
            sums = dict(zip(_COLUMNS, row, strict=True))
            if sums["energies"]:
                values[f"val/{head}/energy_mae"] = sums["energy_error"] / sums["energies"]
                values[f"val/{head}/energy_rmse"] = math.sqrt(sums["energy_square"] / sums["energies"])
            if sums["components"]:
                values[f"val/{head}/force_mae"] = sums["force_error"] / sums["components"]
                values[f"val/{head}/force_rmse"] = math.sqrt(sums["force_square"] / sums["components"])
                if sums["force_size"] / sums["components"] > SMALL_FORCES:
                    ratios.append(sums["force_error"] / sums["force_size"])
                    values[f"val/{head}/force_ratio"] = ratios[-1]
            if sums["stresses"]:
                values[f"val/{head}/stress_mae"] = sums["stress_error"] / sums["stresses"]
        if ratios:
            values["val/force_ratio_median"] = float(torch.tensor(ratios).median())
            values["val/force_ratio_worst"] = max(ratios)
        for element, (error, components) in enumerate(self.by_element.tolist()):
            if components:
                values[f"val/element/{chemical_symbols[element]}/force_mae"] = error / components
        return values


def validation_error(summary: dict[str, float]) -> float | None:
    """Return one number to compare states by, smaller is better; None if nothing was measured.

    The median force error relative to zero forces; without forces to speak of the median energy error, eV/atom.
    """
    if "val/force_ratio_median" in summary:
        return summary["val/force_ratio_median"]
    energies = [value for key, value in summary.items() if key.endswith("/energy_mae")]
    return float(torch.tensor(energies).median()) if energies else None
