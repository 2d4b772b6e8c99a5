"""A model's weights as the inference engine takes them: constant NumPy arrays, folded together where they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lam.model.layer import Layer
    from lam.model.potential import Potential
    from lam.model.readout import Readout


class LayerWeights(NamedTuple):
    """The weights of a layer as the functions below take them, with L + 1 degrees and the transposed where needed."""

    gate: np.ndarray
    """1 + gate of each element, (Z, K), K = n S."""
    mix: np.ndarray
    """Scaled map of the sums over neighbours, (L + 1, K, C)."""
    mix_back: np.ndarray
    passing: np.ndarray
    """Scaled map of the passed tensors of l = 1, 2, (2, n C_t, C); (0, 0, 0) in the first layer."""
    passing_back: np.ndarray
    partner: np.ndarray
    """(L + 1, C, C)."""
    partner_back: np.ndarray
    second: np.ndarray
    """The product's partner, (L + 1, C, C); (0, C, C) without invariants of four densities."""
    second_back: np.ndarray
    invariant: np.ndarray
    """Map of the invariants, by group, (1 + 2 or 3 times (L + 1), C, S); their norms are in it."""
    invariant_back: np.ndarray
    invariant_bias: np.ndarray
    gain: np.ndarray
    """1 + gain of each element, (Z, S)."""
    residual: np.ndarray
    """(S, S)."""
    residual_back: np.ndarray
    update: np.ndarray
    """(S, S)."""
    update_back: np.ndarray
    update_bias: np.ndarray
    tensors: np.ndarray
    """Map of density and product to tensors of l = 1, 2, (2, 2, C, C_t); (0, 0, 0, 0) in the last layer."""
    tensors_back: np.ndarray
    tensor_gate: np.ndarray
    """(S, C_t)."""
    tensor_gate_back: np.ndarray
    tensor_bias: np.ndarray
    sender: np.ndarray
    """The next layer's map of scalars to senders, (S, Q)."""
    sender_back: np.ndarray
    seen: np.ndarray
    """The next layer's map of tensors to senders, (2, C_t, Q)."""
    seen_back: np.ndarray


class ReadoutWeights(NamedTuple):
    """The weights of the heads; the first axis is the task."""

    gain: np.ndarray
    bias: np.ndarray
    hidden: np.ndarray
    """(S, H)."""
    hidden_back: np.ndarray
    hidden_bias: np.ndarray
    hidden_gain: np.ndarray
    hidden_shift: np.ndarray
    weight: np.ndarray
    """(tasks, H + S)."""
    offset: np.ndarray
    scale: np.ndarray
    """Energy scale, (tasks,)."""


def layer_weights(layer: Layer, following: Layer | None, n_radial: int) -> LayerWeights:
    """Return the weights of a layer, with the maps by which the following one makes senders of its output."""
    message, product = layer.message, layer.product
    degrees = round(len(message.scale) ** 0.5)
    channels, width = product.channels, layer.update.in_features
    senders = message.sender.out_features
    # One scale for each component; all components of a degree have the same.
    lowest = [degree * degree for degree in range(degrees)]
    mix = (message.mix.weight * message.scale[lowest]).double()
    pairs = n_radial * senders
    passing = mix[1:3, pairs:] if mix.shape[1] > pairs else mix.new_zeros(0, 0, 0)
    mix = mix[:, :pairs]
    invariant = layer.invariant.weight.double().view(width, -1, channels).permute(1, 2, 0).clone()
    norms = (2.0 * torch.arange(degrees, dtype=torch.float64) + 1.0).rsqrt().repeat(product.kinds)
    partner = product.product_partner
    second = mix.new_zeros(0, channels, channels) if partner is None else partner.weight
    invariant[1:] *= norms[:, None, None]
    if layer.to_tensors is None or following is None:
        tensors, gate, bias = mix.new_zeros(0, 0, 0, 0), mix.new_zeros(width, 0), mix.new_zeros(0)
        sender, seen = mix.new_zeros(width, 0), mix.new_zeros(0, 0, 0)
    else:
        tensors = layer.to_tensors.weight.view(2, 2, channels, -1)
        gate, bias = layer.tensor_gate.weight.T, layer.tensor_gate.bias
        sender = following.message.sender.weight.T
        seen = torch.stack([part.T for part in following.message.along_bond.weight.split(tensors.shape[3], dim=1)])
    matrices = {
        "mix": mix, "passing": passing, "partner": product.partner.weight, "second": second,
        "invariant": invariant, "residual": layer.from_scalars.weight.T, "update": layer.update.weight.T,
        "tensors": tensors, "tensor_gate": gate, "sender": sender, "seen": seen,
    }  # fmt: skip
    vectors = {
        "gate": 1.0 + message.gate.weight.double(), "gain": 1.0 + layer.element_gain.weight.double(),
        "invariant_bias": layer.invariant.bias, "update_bias": layer.update.bias, "tensor_bias": bias,
    }  # fmt: skip
    dtype = layer.update.weight.dtype
    both = {name: array(matrix, dtype) for name, matrix in (matrices | vectors).items()}
    both |= {f"{name}_back": array(matrix.transpose(-1, -2), dtype) for name, matrix in matrices.items()}
    return LayerWeights(**both)


def readout_weights(readout: Readout, energy_scale: Tensor) -> ReadoutWeights:
    """Return the weights of the heads."""
    dtype = readout.weight.dtype
    values = {
        "gain": readout.film.gain, "bias": readout.film.bias, "hidden": readout.hidden.weight.T,
        "hidden_back": readout.hidden.weight, "hidden_bias": readout.hidden.bias,
        "hidden_gain": readout.hidden_film.gain, "hidden_shift": readout.hidden_film.bias,
        "weight": readout.weight, "offset": readout.bias, "scale": energy_scale,
    }  # fmt: skip
    return ReadoutWeights(**{name: array(value, dtype) for name, value in values.items()})


def combined_weights(model: Potential, elements: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first layer's maps for senders that are their element alone, and the transposed.

    With one sender channel for each element, the sum over neighbours has ``slots`` channels only, and the rest of
    the layer's map - the element's sender, the centre's gate, the mix - is one matrix for each element and degree.

    Args:
        model: the model.
        elements: atomic numbers, (Q,).
        slots: at least Q; the others' rows are zero.

    Returns:
        (Q, L + 1, n slots, C) and (Q, L + 1, C, n slots), in the model's precision.
    """
    message = model.backbone.layers[0].message
    senders, n_radial = message.sender.out_features, model.config.radial_functions
    rows = torch.from_numpy(elements)
    q = model.backbone.element.weight[rows].double() @ message.sender.weight.double().T
    gate = 1.0 + message.gate.weight[rows].double().view(len(rows), n_radial, senders)
    lowest = [degree * degree for degree in range(model.config.l_max + 1)]
    mix = (message.mix.weight.double() * message.scale[lowest].double()).view(len(lowest), n_radial, senders, -1)
    combined = torch.einsum("es,zns,dnsc->zdnec", q, gate, mix)
    full = combined.new_zeros(*combined.shape[:3], slots, combined.shape[-1])
    full[:, :, :, : len(rows)] = combined
    full = full.flatten(2, 3)
    return array(full, model.dtype), array(full.transpose(-1, -2), model.dtype)


def array(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Return a contiguous copy as a NumPy array."""
    return tensor.detach().to(dtype, copy=True).contiguous().numpy()
