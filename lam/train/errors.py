"""Errors of a model on data sets: one pass, no training."""

from __future__ import annotations

import torch

from lam.data.dataset import MultiTaskDataset
from lam.data.graph import collate
from lam.data.sampler import SequentialBudgetSampler
from lam.model import Potential
from lam.train.validation import ErrorSums


def dataset_errors(
    model: Potential,
    dataset: MultiTaskDataset,
    *,
    max_atoms: int = 2048,
    max_edges: int = 100_000,
    max_per_dataset: int | None = None,
) -> dict[str, dict[str, float]]:
    """Return the errors of each head on its data set.

    Args:
        model: the model; it is put into evaluation mode.
        dataset: structures whose tasks are heads of the model.
        max_atoms: atoms in a batch.
        max_edges: edges in a batch.
        max_per_dataset: use at most so many structures of each data set, evenly spaced.

    Returns:
        Head name -> ``energy_mae`` (eV/atom), ``force_mae`` (eV/Angstrom), ``stress_mae`` (eV/Angstrom^3)
        and ``force_ratio`` (force error relative to predicting zero), where there are labels; and
        ``energy_rmse``, ``force_rmse``.
    """
    model.eval()
    sums = ErrorSums(model.head_names)
    sums.reset(model.device)
    for items in SequentialBudgetSampler(dataset, max_atoms, max_edges, max_per_dataset=max_per_dataset):
        batch = {key: value.to(model.device) for key, value in collate([dataset[i] for i in items]).items()}
        sums.add(model(batch), batch)
    errors: dict[str, dict[str, float]] = {}
    for key, value in sums.summary().items():
        if key.count("/") == 2:
            _, head, quantity = key.split("/")
            errors.setdefault(head, {})[quantity] = value
    return errors


UNITS = {
    "energy_mae": "energy_mae_eV_per_atom",
    "energy_rmse": "energy_rmse_eV_per_atom",
    "force_mae": "force_mae_eV_per_A",
    "force_rmse": "force_rmse_eV_per_A",
    "force_ratio": "force_mae_over_zero_forces",
    "stress_mae": "stress_mae_eV_per_A3",
}
"""Names of the errors in a checkpoint, with their units."""


def record_errors(model: Potential, held_out: MultiTaskDataset) -> dict[str, float]:
    """Measure the heads on held-out data and note the errors in their descriptions.

    Args:
        model: the model; its ``heads`` get new ``metrics``.
        held_out: held-out structures.

    Returns:
        A summary over the heads whose data have forces to speak of (see ``SMALL_FORCES``).
    """
    errors = dataset_errors(model, held_out)
    sizes = dict(zip(held_out.names, held_out.sizes.tolist(), strict=True))
    model.heads = [
        head.model_copy(
            update={
                "metrics": {UNITS[key]: value for key, value in errors.get(head.name, {}).items()}
                | {"test_structures": float(sizes.get(head.name, 0))}
            }
        )
        for head in model.heads
    ]
    ratios = torch.tensor([entry["force_ratio"] for entry in errors.values() if "force_ratio" in entry])
    if not len(ratios):
        return {}
    return {
        "force_mae_over_zero_forces_median": float(ratios.median()),
        "force_mae_over_zero_forces_worst": float(ratios.max()),
        "data_sets_with_mean_force_above_0.05_eV_per_A": float(len(ratios)),
    }


def interaction_residuals(model: Potential, dataset: MultiTaskDataset, head: str) -> tuple[torch.Tensor, list[int]]:
    """Return label minus interaction energy (without references) of a head, and the items it belongs to.

    Args:
        model: the model.
        dataset: labelled structures, of any task.
        head: whose interaction energy to subtract.

    Returns:
        Residual total energies, (S,) float64, eV, of the structures with an energy label, and their items.
    """
    from lam import keys

    task = model.head_index(head)
    residuals, used = [], []
    with torch.no_grad():
        for items in SequentialBudgetSampler(dataset, 2048, 100_000):
            batch = {key: value.to(model.device) for key, value in collate([dataset[i] for i in items]).items()}
            batch[keys.TASK] = torch.full_like(batch[keys.TASK], task)
            output = model(batch, forces=False, stress=False)
            atoms = batch[keys.BATCH]
            references = model.reference_energies()[task, batch[keys.ATOMIC_NUMBERS]]
            total = references.new_zeros(len(items)).index_add(0, atoms, references)
            interaction = output[keys.ENERGY] - total
            has = batch[keys.MASK_ENERGY]
            residuals.append((batch[keys.LABEL_ENERGY] - interaction)[has].cpu())
            used += [item for item, labelled in zip(items, has.tolist(), strict=True) if labelled]
    return torch.cat(residuals), used
