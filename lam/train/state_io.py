"""Resumable training states without pickle: one safetensors file with the structure in its header.

Lightning's own checkpoints are pickles. Here every tensor of the nested state goes into a safetensors
file and everything else, as JSON, into its metadata. The file is complete or absent.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lam.atomic_write import atomic_file
from lam.errors import LamError, LamWarning

FORMAT = "lam-training-state"
VERSION = 1


class SafetensorsCheckpointIO(CheckpointIO):
    """Lightning plugin that writes and reads training states as safetensors."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the state atomically. If it cannot be written, warn: the training and the last state go on."""
        tensors: dict[str, Tensor] = {}
        header = {"format": FORMAT, "version": str(VERSION), "state": json.dumps(_encode(checkpoint, tensors))}
        try:
            with atomic_file(path) as temporary:
                save_file(tensors, temporary, metadata=header)
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"The training state '{path}' could not be written ({error}); the training goes on and tries again "
                "when the next state is due. Make room, or what is trained since the last state is lost with a stop.",
                LamWarning,
                stacklevel=2,
            )

    def load_checkpoint(self, path: str | Path, map_location: Any = None, **_: Any) -> dict[str, Any]:
        """Read a state back, on the CPU; Lightning moves it where it belongs.

        Raises:
            LamError: if the file is missing, damaged, or no training state of a known version.
        """
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise LamError(
                f"The training state '{path}' is damaged or no state ({error}); remove it to start anew."
            ) from None
        if header.get("format") != FORMAT:
            raise LamError(f"'{path}' is no training state of lam; remove it to start anew.")
        try:
            if int(header["version"]) > VERSION:
                raise LamError(f"'{path}' was written by a newer lam; upgrade lam to resume from it.")
            return _decode(json.loads(header["state"]), tensors)
        except (KeyError, ValueError, TypeError) as error:
            raise LamError(f"The training state '{path}' is damaged ({error}); remove it to start anew.") from None

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a state."""
        Path(path).unlink(missing_ok=True)


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn nested state into JSON, moving tensors to ``tensors``. Containers are tagged by kind."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, np.ndarray):
        return {"array": _encode(torch.from_numpy(value.copy()), tensors)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_encode(v, tensors) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a training state cannot hold a {type(value).__name__}")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return _decode(content, tensors).numpy()
    if kind == "tuple":
        return tuple(_decode(v, tensors) for v in content)
    return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
