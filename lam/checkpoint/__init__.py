"""Checkpoints on disk, and the names of those that ship with the package."""

from lam.checkpoint.format import checkpoint_folder, load_checkpoint, load_metadata, save_checkpoint
from lam.checkpoint.metadata import CheckpointMetadata, WeightsInfo
from lam.checkpoint.registry import available, load, resolve

__all__ = [
    "CheckpointMetadata",
    "WeightsInfo",
    "available",
    "checkpoint_folder",
    "load",
    "load_checkpoint",
    "load_metadata",
    "resolve",
    "save_checkpoint",
]
