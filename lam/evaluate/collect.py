"""The errors of one data set, collected structure by structure and summed up in one dict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from lam.evaluate.metrics import (
    ENERGY_UNIT,
    FORCE_UNIT,
    N_ELEMENTS,
    STRESS_UNIT,
    VOIGT,
    ElementSums,
    EnergyPairs,
    ErrorSum,
    OffsetFit,
    Sample,
    fit_offsets,
    ratio,
)

if TYPE_CHECKING:
    from lam.calculators.predictor import Prediction
    from lam.data.structure import Structure


class DatasetErrors:
    """Accumulates predictions against labels; a label that is missing is left out, never zero."""

    def __init__(self) -> None:
        self.n_structures = 0
        self.n_atoms = 0
        self.skipped_elements: dict[str, int] = {}
        self.n_skipped = 0
        self.energies = EnergyPairs()
        self.forces, self.zero_forces = ErrorSum(), ErrorSum()
        self.stress, self.zero_stress = ErrorSum(), ErrorSum()
        self.element_forces, self.element_zero_forces = ElementSums(), ElementSums()
        self.atoms_of_element = np.zeros(N_ELEMENTS, dtype=np.int64)
        self.structures_of_element = np.zeros(N_ELEMENTS, dtype=np.int64)
        self.force_sample, self.stress_sample = Sample(seed=1), Sample(seed=2)

    def skip(self, uncovered: set[int]) -> None:
        """Count a structure that the head does not cover, because of the elements ``uncovered``."""
        self.n_skipped += 1
        for number in sorted(uncovered):
            symbol = chemical_symbols[number]
            self.skipped_elements[symbol] = self.skipped_elements.get(symbol, 0) + 1

    def add(self, structure: Structure, prediction: Prediction) -> None:
        """Compare one prediction with the labels that its structure has."""
        numbers = structure.numbers
        counts = np.bincount(numbers, minlength=N_ELEMENTS)
        self.n_structures += 1
        self.n_atoms += len(numbers)
        self.atoms_of_element += counts
        self.structures_of_element += counts > 0
        if structure.energy is not None:
            self.energies.add(numbers, structure.energy, prediction.energy)
        if structure.forces is not None:
            self._add_forces(numbers, structure.forces, prediction.forces)
        if structure.stress is not None and prediction.stress is not None:
            reference, predicted = structure.stress[VOIGT], prediction.stress[VOIGT]
            self.stress.add(predicted - reference)
            self.zero_stress.add(reference)
            self.stress_sample.add(reference, predicted)

    def _add_forces(self, numbers: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> None:
        self.forces.add(predicted - reference)
        self.zero_forces.add(reference)
        self.element_forces.add(numbers, predicted - reference)
        self.element_zero_forces.add(numbers, reference)
        self.force_sample.add(reference, predicted)

    def refit(self) -> OffsetFit | None:
        """Fit the offset by which labels and predictions differ per element; ``None`` with too few labels.

        As many structures as free offsets could be fitted exactly, which would say nothing.
        """
        if not len(self.energies):
            return None
        reference, predicted = self.energies.arrays
        fit = fit_offsets(self.energies.composition, reference - predicted)
        return fit if fit.n_structures > fit.rank else None


def energy_per_atom_errors(errors: DatasetErrors, offset: OffsetFit | None) -> np.ndarray:
    """Return predicted minus reference energy per atom, eV/atom, (S,), after adding ``offset``."""
    reference, predicted = errors.energies.arrays
    composition = errors.energies.composition
    if offset is not None:
        predicted = predicted + offset.apply(composition)
    return (predicted - reference) / composition.sum(axis=1)


def _summed(values: np.ndarray) -> ErrorSum:
    total = ErrorSum()
    total.add(values)
    return total


def energy_block(errors: DatasetErrors, *, refit: bool, baseline: OffsetFit | None) -> dict[str, Any] | None:
    """Sum up the energy errors; ``None`` without energy labels.

    Args:
        errors: what was collected.
        refit: is the headline error (``mae``, ``rmse``) the one after refitting?
        baseline: per-element energies of the composition-only baseline.
    """
    if not len(errors.energies):
        return None
    offset = errors.refit()
    raw = _summed(energy_per_atom_errors(errors, None))
    refitted = _summed(energy_per_atom_errors(errors, offset)) if offset is not None else ErrorSum()
    headline = refitted if refit else raw
    totals = energy_per_atom_errors(errors, offset if refit else None) * errors.energies.composition.sum(axis=1)
    flat = ErrorSum()
    if baseline is not None:
        composition = errors.energies.composition
        flat.add((baseline.apply(composition) - errors.energies.arrays[0]) / composition.sum(axis=1))
    return {
        "unit": ENERGY_UNIT,
        "n": len(errors.energies),
        "mae": headline.mae,
        "rmse": headline.rmse,
        "rmse_per_structure": _summed(totals).rmse if headline.count else None,
        "refitted": refit,
        "raw_mae": raw.mae,
        "raw_rmse": raw.rmse,
        "refitted_mae": refitted.mae,
        "refitted_rmse": refitted.rmse,
        "refit_rank": offset.rank if offset is not None else None,
        "baseline_mae": flat.mae,
        "baseline_rmse": flat.rmse,
        "ratio_mae": ratio(headline.mae, flat.mae),
        "ratio_rmse": ratio(headline.rmse, flat.rmse),
    }


def error_block(model: ErrorSum, baseline: ErrorSum, unit: str) -> dict[str, Any] | None:
    """Sum up force or stress errors beside those of predicting zero; ``None`` without labels."""
    if not model.count:
        return None
    return {
        "unit": unit,
        "n": model.count,
        "mae": model.mae,
        "rmse": model.rmse,
        "baseline_mae": baseline.mae,
        "baseline_rmse": baseline.rmse,
        "ratio_mae": ratio(model.mae, baseline.mae),
        "ratio_rmse": ratio(model.rmse, baseline.rmse),
    }


def forces_block(errors: DatasetErrors) -> dict[str, Any] | None:
    """Sum up the force errors of a data set. ``baseline_mae`` is the mean absolute force component."""
    return error_block(errors.forces, errors.zero_forces, FORCE_UNIT)


def stress_block(errors: DatasetErrors) -> dict[str, Any] | None:
    """Sum up the errors of the six stress components of a data set."""
    return error_block(errors.stress, errors.zero_stress, STRESS_UNIT)


class ElementTable:
    """Errors per element, over one data set or (by :meth:`add`) over several."""

    def __init__(self) -> None:
        self.atoms = np.zeros(N_ELEMENTS, dtype=np.int64)
        self.structures = np.zeros(N_ELEMENTS, dtype=np.int64)
        self.energy, self.forces, self.zero_forces = ElementSums(), ElementSums(), ElementSums()

    def add(self, errors: DatasetErrors, *, refit: bool) -> None:
        """Add a data set. The energy error of a structure counts once for each element in it."""
        self.atoms += errors.atoms_of_element
        self.structures += errors.structures_of_element
        self.forces.merge(errors.element_forces)
        self.zero_forces.merge(errors.element_zero_forces)
        offset = errors.refit() if refit else None
        if len(errors.energies) and (offset is not None or not refit):
            rows, numbers = np.nonzero(errors.energies.composition)
            self.energy.add(numbers, energy_per_atom_errors(errors, offset)[rows])

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the table, element symbol -> counts and errors, by atomic number."""
        table = {}
        for number in np.flatnonzero(self.atoms):
            energy, forces, flat = (s.of(number) for s in (self.energy, self.forces, self.zero_forces))
            table[chemical_symbols[number]] = {
                "n_structures": int(self.structures[number]),
                "n_atoms": int(self.atoms[number]),
                "energy_mae": energy.mae,
                "force_mae": forces.mae,
                "force_rmse": forces.rmse,
                "force_baseline_mae": flat.mae,
                "force_ratio_mae": ratio(forces.mae, flat.mae),
            }
        return table
