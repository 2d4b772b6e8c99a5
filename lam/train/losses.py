"""The loss: scaled errors of energy, forces and stress, each over the labels that are there.

For a structure with N atoms and volume V, and a head of force scale f (about the RMS of its force components)
and energy scale e (see HeadInfo), both at least ``SMALLEST_SCALE``, the scaled errors are

* energy: ``(E - E_ref) / N / e``, averaged over structures with an energy label;
* forces: ``(F - F_ref) / f``, averaged over atoms with force labels;
* stress: ``(sigma - sigma_ref) V / N / e``, averaged over structures with a stress label.

What is averaged of a scaled error x is its norm ``|x|`` (the default), ``mae``: the mean size of its components,
``mse``: ``|x|^2``, or ``huber``: ``|x|^2 / (2 d)`` up to ``|x| = d``, ``|x| - d / 2`` above. All but ``mae`` are
invariant under rotations.

Scaling by the head makes data sets of different energy scales count alike. Norms rather than squares
bound the pull of outliers. Averages are over the labels of *all* processes, so the gradient of a global
batch does not depend on how its structures fall on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lam import keys
from lam.train.config import LossSection

SMALLEST_SCALE = 0.2
"""Floor of the scales, eV/Angstrom and eV: near-relaxed data is not to be fitted beyond its noise."""
TERMS = ("energy", "forces", "stress")
_NORMS = LossSection()


def loss_sums(
    output: dict[str, Tensor],
    batch: dict[str, Tensor],
    force_scale: Tensor,
    energy_scale: Tensor,
    loss: LossSection = _NORMS,
    head_factors: Tensor | None = None,
) -> dict[str, Tensor]:
    """Sum what the loss makes of the scaled errors over the labels present.

    Args:
        output: predictions with energy and forces, and with stress unless no structure has a label of it.
        batch: labels and masks.
        force_scale: force scale of each head, eV/Angstrom, (T,).
        energy_scale: energy scale of each head, eV, (T,).
        loss: the kinds of the terms.
        head_factors: factor of each head's loss, (T,); by default 1.

    Returns:
        For each term the sum over each structure, (G,).
    """
    graph_scale = energy_scale.clamp(min=SMALLEST_SCALE)[batch[keys.TASK]]
    size = batch[keys.N_ATOMS].to(graph_scale.dtype)
    kinds, delta = loss.kinds, loss.huber_delta

    has_energy = batch[keys.MASK_ENERGY]
    energy_difference = _difference(output[keys.ENERGY], batch[keys.LABEL_ENERGY], has_energy)
    energy = _measure((energy_difference.to(graph_scale.dtype) / size / graph_scale)[:, None], kinds["energy"], delta)

    has_forces = batch[keys.MASK_FORCES]
    atom_scale = force_scale.clamp(min=SMALLEST_SCALE)[batch[keys.TASK]][batch[keys.BATCH]]
    on_atoms = has_forces[batch[keys.BATCH]]
    force_difference = _difference(output[keys.FORCES], batch[keys.LABEL_FORCES], on_atoms[:, None])
    force_error = _measure(force_difference / atom_scale[:, None], kinds["forces"], delta)
    forces = force_error.new_zeros(len(size)).index_add(0, batch[keys.BATCH], force_error)

    has_stress = batch[keys.MASK_STRESS]
    stress = torch.zeros_like(energy)
    if keys.STRESS in output:
        volume = torch.linalg.det(batch[keys.CELL]).abs().to(graph_scale.dtype)
        stress_difference = _difference(output[keys.STRESS], batch[keys.LABEL_STRESS], has_stress[:, None, None])
        # The volume of a structure without a cell may be anything.
        factor = torch.where(has_stress, volume / size / graph_scale, 0.0)
        stress = _measure(stress_difference.flatten(1) * factor[:, None], kinds["stress"], delta)

    sums = {"energy": energy, "forces": forces, "stress": stress}
    if head_factors is None:
        return sums
    factor = head_factors.to(energy.dtype)[batch[keys.TASK]]
    return {term: values * factor for term, values in sums.items()}


def label_masks(batch: dict[str, Tensor], head_factors: Tensor | None = None) -> Tensor:
    """Return how many labels of each term each structure has that count, (terms, G) int64: one, or one an atom.

    Args:
        batch: labels and masks.
        head_factors: factor of each head's loss, (T,): labels of heads with 0 do not count.
    """
    has_forces = batch[keys.N_ATOMS] * batch[keys.MASK_FORCES]
    labels = torch.stack([batch[keys.MASK_ENERGY].long(), has_forces, batch[keys.MASK_STRESS].long()])
    return labels if head_factors is None else labels * (head_factors > 0)[batch[keys.TASK]]


def combine(sums: dict[str, Tensor], counts: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Return the weighted loss from sums over structures and the global label counts."""
    zero = sums["energy"].new_zeros(())
    return sum((weights[t] * sums[t].sum() / counts[t].clamp(min=1.0) for t in TERMS), zero)


def _difference(predicted: Tensor, label: Tensor, has_label: Tensor) -> Tensor:
    """Return ``predicted - label``, and a constant zero where there is no label, whatever stands there."""
    return torch.where(has_label, predicted, 0.0) - torch.where(has_label, label, 0.0)


def _measure(error: Tensor, kind: str, delta: float) -> Tensor:
    """Return what counts of scaled errors (K, components), (K,)."""
    if kind == "mse":
        return error.square().sum(-1)
    if kind == "mae":
        return error.abs().mean(-1)
    norm = _norm(error)
    if kind == "huber":
        return torch.where(norm < delta, error.square().sum(-1) / (2.0 * delta), norm - 0.5 * delta)
    return norm


def _norm(error: Tensor) -> Tensor:
    if error.shape[-1] == 1:
        return error[:, 0].abs()
    # The offset keeps the gradient finite where the error is exactly zero (symmetric crystals).
    return torch.sqrt(error.square().sum(-1) + 1e-12) - 1e-6
