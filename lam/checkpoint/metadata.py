"""What the JSON half of a checkpoint holds: one strict schema for writing, reading and showing it."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from lam.config import Section
from lam.model.config import ModelConfig
from lam.model.heads import HeadInfo

FORMAT_NAME: Final = "lam-checkpoint"
FORMAT_VERSION: Final = 1
"""Raised by one, with a function in :mod:`lam.checkpoint.upgrades`, whenever the layout changes."""


class WeightsInfo(Section):
    """The file of weights that belongs to the JSON, described well enough to notice any damage."""

    file: str = "model.safetensors"
    """Name of the file, in the same folder."""
    sha256: str
    """Checksum of the whole file."""
    bytes: int
    """Size of the file."""
    tensors: int
    """Number of tensors in it."""
    parameters: int
    """Number of trainable values."""


class CheckpointMetadata(Section):
    """Everything about a checkpoint but its weights.

    A writer gives ``name``, ``training`` and ``metrics``; the rest is filled in from the model by
    :func:`lam.checkpoint.save_checkpoint`, so that it cannot disagree with the weights.
    """

    format: Literal["lam-checkpoint"] = FORMAT_NAME
    """Marks the file as ours."""
    format_version: int = FORMAT_VERSION
    """Version of the layout of both files."""
    name: str = Field(min_length=1)
    """Name of the model, e.g. lam-nano."""
    created: str = ""
    """Date and time of writing, ISO 8601, UTC."""
    architecture: ModelConfig = ModelConfig()
    """Shape of the model; with the heads, all that is needed to rebuild it."""
    heads: list[HeadInfo] = []
    """The heads, in the order of their rows in the weights."""
    default_heads: list[str] = []
    """Heads tried in this order when the user names none."""
    elements: dict[str, int] = {}
    """Element symbol -> number of training structures that contain it, summed over the heads."""
    training: dict[str, Any] = {}
    """How it was trained: configuration, steps, seconds, data sets, parent checkpoint; free form."""
    metrics: dict[str, Any] = {}
    """Errors on held-out data, with units in the names; free form."""
    versions: dict[str, str] = {}
    """Versions of lam, Python and the libraries that wrote it."""
    weights: WeightsInfo | None = None
    """The file of weights."""
