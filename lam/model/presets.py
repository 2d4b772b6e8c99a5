"""Named sizes of the model."""

from __future__ import annotations

from lam.errors import unknown_name
from lam.model.config import ModelConfig

PRESETS: dict[str, ModelConfig] = {
    # Strictly local: for two CPU cores, and for domain decomposition without communication.
    "nano": ModelConfig(fourth_order=False),
    "small": ModelConfig(n_layers=2, channels=64, scalar_channels=96, tensor_channels=16, fourth_order=False),
    "base": ModelConfig(
        cutoff=5.5,
        n_layers=3,
        channels=128,
        scalar_channels=128,
        sender_channels=32,
        tensor_channels=32,
        readout_channels=64,
        mean_neighbors=50.0,
        fourth_order=False,
    ),
}


def preset(name: str) -> ModelConfig:
    """Return the architecture of a named size.

    Raises:
        LamError: if there is no such preset; lists those there are.
    """
    if name not in PRESETS:
        raise unknown_name("model preset", name, PRESETS)
    return PRESETS[name]
