"""Reference energies, once more after a training: what the trained model leaves of the energies, fitted per element.

Before a training, reference energies are fitted to the bare total energies. The model then learns most of what
they leave, but a constant per element only slowly, in competition with everything else; solving for it costs one
pass without gradients.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from ase.data import chemical_symbols

from lam import keys
from lam.data.dataset import MultiTaskDataset
from lam.data.graph import collate
from lam.data.references import WIDTH, fit_reference_energies
from lam.data.sampler import SequentialBudgetSampler
from lam.model import Potential

RIDGE = 1e-2
"""Pull of the change towards zero, relative to the best determined combination of elements."""


def refit_references(model: Potential, dataset: MultiTaskDataset, *, per_head: int) -> dict[str, float]:
    """Change the reference energies of every head by what fits the structures left over, in place.

    Args:
        model: the trained model; it is put into evaluation mode.
        dataset: training structures.
        per_head: largest number of structures of each data set that are used, evenly spaced.

    Returns:
        Head name -> root mean square change of a reference energy, eV.
    """
    model.eval()
    changes: dict[str, float] = {}
    for task, (compositions, residuals) in _residuals(model, dataset, per_head).items():
        fit = fit_reference_energies(compositions, residuals, ridge=RIDGE)
        info = model.heads[task]
        present = [z for z in np.flatnonzero(fit.counts) if chemical_symbols[z] in info.reference_energies]
        moved = {chemical_symbols[z]: float(fit.energies[z]) for z in present}
        energies = {symbol: e + moved.get(symbol, 0.0) for symbol, e in info.reference_energies.items()}
        model.heads[task] = info.model_copy(update={"reference_energies": energies})
        table = model.reference_energies.value
        with torch.no_grad():
            for z in present:
                table[task, z] = energies[chemical_symbols[z]]
        changes[info.name] = float(np.sqrt(np.mean(np.square(list(moved.values()))))) if moved else 0.0
    return changes


def _residuals(model: Potential, dataset: MultiTaskDataset, per_head: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return compositions (S, 119) and label minus prediction (S,), eV, of each task with energy labels."""
    found: dict[int, list[tuple[np.ndarray, float]]] = defaultdict(list)
    for items in SequentialBudgetSampler(dataset, 2048, 100_000, max_per_dataset=per_head):
        batch = {key: value.to(model.device) for key, value in collate([dataset[i] for i in items]).items()}
        with torch.no_grad():
            output = model(batch, forces=False, stress=False)
        rows = np.zeros((len(items), WIDTH))
        np.add.at(rows, (batch[keys.BATCH].cpu().numpy(), batch[keys.ATOMIC_NUMBERS].cpu().numpy()), 1.0)
        residuals = (batch[keys.LABEL_ENERGY] - output[keys.ENERGY]).tolist()
        labelled, tasks = batch[keys.MASK_ENERGY].tolist(), batch[keys.TASK].tolist()
        for row, residual, task, has in zip(rows, residuals, tasks, labelled, strict=True):
            if has:
                found[task].append((row, residual))
    return {
        task: (np.stack([row for row, _ in pairs]), np.array([residual for _, residual in pairs]))
        for task, pairs in found.items()
    }
