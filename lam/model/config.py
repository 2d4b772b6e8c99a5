"""The architecture's settings: one schema with defaults, documentation and validation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lam.config.base import Section


class ModelConfig(Section):
    """Shape of the backbone and its readout. Stored in every checkpoint, so a model rebuilds itself."""

    cutoff: float = Field(5.0, gt=0.5, le=15.0)
    """Radius of each message, Angstrom."""
    l_max: Literal[1, 2, 3] = 3
    """Highest degree of the spherical harmonics of the atomic density."""
    n_layers: int = Field(1, ge=1, le=6)
    """Number of message-passing layers; 1 is strictly local."""
    channels: int = Field(64, ge=4)
    """Channels of the mixed density and of its products."""
    radial_functions: int = Field(8, ge=2, le=32)
    """Number of Bessel functions of the distance."""
    sender_channels: int = Field(16, ge=2)
    """Channels in which a neighbour describes itself to its centre."""
    scalar_channels: int = Field(64, ge=4)
    """Width of the invariant (scalar) features of an atom."""
    tensor_channels: int = Field(16, ge=0)
    """Channels of the l = 1, 2 features that later layers send; unused with one layer."""
    fourth_order: bool = True
    """Make invariants of four densities too, besides those of up to three."""
    readout_channels: int = Field(32, ge=4)
    """Width of the readout's hidden layer."""
    mean_neighbors: float = Field(40.0, gt=0)
    """Typical number of neighbours within the cutoff; normalises the density."""
    zbl: bool = True
    """Add the screened nuclear repulsion of Ziegler, Biersack and Littmark at short range."""
    max_atomic_number: int = Field(118, ge=1, le=118)
    """Largest atomic number that has an embedding."""

    @model_validator(mode="after")
    def _tensors_need_channels(self) -> ModelConfig:
        if self.n_layers > 1 and self.tensor_channels < 1:
            raise ValueError("tensor_channels must be at least 1 with more than one layer")
        if self.n_layers > 1 and self.l_max < 2:
            raise ValueError("l_max must be at least 2 with more than one layer")
        return self
