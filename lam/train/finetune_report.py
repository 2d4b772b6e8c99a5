"""What a fine-tune reports: its result, errors as text, and forgetting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lam.checkpoint import CheckpointMetadata
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import load_manifest
from lam.errors import LamError
from lam.model import Potential
from lam.train.errors import dataset_errors

Errors = dict[str, float]


@dataclass(frozen=True)
class FineTuneResult:
    """What a fine-tune did.

    Errors are ``energy_mae`` (eV/atom, after the refit of the reference energies), ``force_mae``
    (eV/Angstrom), ``stress_mae`` (eV/Angstrom^3) and ``force_ratio`` (relative to predicting zero).
    """

    path: Path
    """Folder of the new checkpoint."""
    head: str
    """Name of the new head."""
    base_head: str
    """Head that it started from; empty from scratch."""
    n_train: int
    """Number of structures trained on."""
    measured_on: str
    """What ``before`` and ``after`` were measured on: "test data", "held-out labels" or "training labels"."""
    before: Errors
    """Error of the pretrained model after the refit, before any step."""
    after: Errors
    """Error of the result."""
    forgetting: dict[str, dict[str, Errors]]
    """Head -> before and after, on a sample of its pretraining data; empty without such data."""
    drift: float | None
    """Mean change of the old heads' forces on built-in probe structures, relative to their size; 0 if they are
    unchanged, None from scratch. Needs no data (see :mod:`lam.train.probes`)."""
    seconds: float
    """Wall time."""


def error_line(errors: Errors) -> str:
    """Return mean absolute errors as text, in meV."""
    parts = []
    if "energy_mae" in errors:
        parts.append(f"energy {1000 * errors['energy_mae']:.2f} meV/atom")
    if "force_mae" in errors:
        parts.append(f"forces {1000 * errors['force_mae']:.1f} meV/A")
    if "stress_mae" in errors:
        parts.append(f"stress {1000 * errors['stress_mae']:.2f} meV/A^3")
    return ", ".join(parts) + " (MAE)"


def pretraining_sample(
    base: Potential, parent: CheckpointMetadata, manifest: str | Path | None
) -> MultiTaskDataset | None:
    """Return held-out pretraining data of the heads that the model has.

    Args:
        base: the pretrained model.
        parent: its metadata.
        manifest: the manifest; by default the one that the metadata names, if it can still be read.

    Returns:
        The data, or None where there is none.

    Raises:
        LamError: if the manifest that was asked for cannot be used.
    """
    if manifest is not None:
        return _held_out(base, manifest)
    recorded = (parent.training.get("config") or {}).get("manifest")
    if not recorded or not Path(recorded).exists():
        return None
    try:
        return _held_out(base, recorded)
    except LamError:  # another data set of the same name, or one that is no longer whole: nobody asked for it
        return None


def _held_out(base: Potential, manifest: str | Path) -> MultiTaskDataset:
    sets = load_manifest(manifest)
    known = [name for name in sets.names if name in base.head_names]
    if not known:
        raise LamError(f"'{manifest}' has no data set that is named like a head of the model.")
    sample = MultiTaskDataset(sets.select(known), "test", base.cutoff, heads=base.head_names)
    if not len(sample):
        raise LamError(f"'{manifest}' holds no structures out for a test, so forgetting cannot be measured on it.")
    return sample


def sample_errors(model: Potential, sample: MultiTaskDataset | None, count: int) -> dict[str, Errors]:
    """Return the errors of old heads on at most ``count`` structures of each data set; empty without a sample."""
    return {} if sample is None else dataset_errors(model, sample, max_per_dataset=count)


def forgetting_line(forgetting: dict[str, dict[str, Errors]]) -> str:
    """Return how the errors on pretraining data changed, as text."""
    if not forgetting:
        return "forgetting: errors not measured, no pretraining data here (name a manifest with --pretraining-data)"
    units = {"force_ratio": "relative to zero forces", "force_mae": "eV/A", "energy_mae": "eV/atom"}
    for quantity, what in units.items():
        pairs = [(entry["before"].get(quantity), entry["after"].get(quantity)) for entry in forgetting.values()]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            before, after = np.median(np.array(pairs), axis=0)
            kind = "energy" if quantity == "energy_mae" else "force"
            return (
                f"forgetting: median {kind} error of {len(pairs)} old head(s) on their own held-out data, {what}: "
                f"{before:.3f} before, {after:.3f} after"
            )
    return "forgetting: errors not measured, the pretraining data have no labels"


def drift_line(drift: float | None) -> str:
    """Return how far the old heads moved, as text."""
    if drift is None:
        return "drift: not measured, the old heads cover none of the built-in probe structures"
    return f"drift: the old heads' forces on built-in probe structures changed by {100 * drift:.1f} % of their size"
