"""Checkpoints: a folder with ``model.safetensors`` (weights) and ``model.json`` (everything else).

Written atomically, read without pickle. Every way in which a folder can be incomplete, damaged or too new
ends in one sentence that names the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from ase.data import chemical_symbols
from safetensors import SafetensorError
from safetensors.torch import load, save

import lam
from lam.atomic_write import atomic_folder
from lam.checkpoint.metadata import FORMAT_NAME, FORMAT_VERSION, CheckpointMetadata, WeightsInfo
from lam.checkpoint.upgrades import upgrade
from lam.errors import LamError
from lam.model.config import ModelConfig
from lam.model.heads import HeadInfo
from lam.model.potential import Potential

METADATA_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "model.safetensors"
MAX_METADATA_BYTES: Final = 64 * 2**20
"""No honest model.json comes near this; a file above it is not read at all."""

_IN_BOTH_FILES: Final = {
    "reference_energies.value": "the reference energies",
    "energy_scale.value": "the energy scales",
}


def save_checkpoint(path: str | Path, model: Potential, *, metadata: CheckpointMetadata) -> None:
    """Write ``model`` as the folder ``path``; an existing folder is replaced in one step.

    The weights are stored in the types that a fresh model has (float32, with float64 where the model keeps
    double precision), whatever type the model runs in now.

    Args:
        path: folder to write.
        model: the potential, on any device.
        metadata: name, training record and metrics; all that the model itself knows is filled in here.

    Raises:
        LamError: if a weight is NaN or infinite, the model's tables are not those of its ``heads``, or
            ``path`` is a file.
    """
    path = Path(path)
    if path.is_file():
        raise LamError(f"Cannot write the checkpoint '{path}': a file of this name is in the way.")
    fresh = _fresh(model.config, model.heads, model.default_heads).state_dict()
    # clone(): tensors that share memory would be refused by safetensors.
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=fresh[name].dtype).contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise LamError(f"The model is not saved: its tensor '{name}' contains NaN or infinite values.")
    differing = _differing_tables(tensors, fresh)
    if differing:
        raise LamError(f"The model is not saved: {differing} in its weights are not those of its heads.")
    with atomic_folder(path) as folder:
        data = save(tensors, metadata={"format": FORMAT_NAME})
        (folder / WEIGHTS_FILE).write_bytes(data)  # not save_file, which makes files that only their owner can read
        weights = WeightsInfo(
            file=WEIGHTS_FILE,
            sha256=_sha256(data),
            bytes=len(data),
            tensors=len(tensors),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
        )
        complete = _complete(metadata, model, weights)
        text = json.dumps(_finite(complete.to_dict()), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def load_checkpoint(path: str | Path) -> tuple[Potential, CheckpointMetadata]:
    """Read a checkpoint: its folder, or either of the two files in it.

    Returns:
        The potential (evaluation mode, float32, on the CPU) and the metadata.

    Raises:
        LamError: if anything is missing, damaged, too new, or does not fit together.
    """
    folder = checkpoint_folder(path)
    metadata = load_metadata(folder)
    tensors = _read_weights(folder / metadata.weights.file, metadata.weights)
    model = _fresh(metadata.architecture, metadata.heads, metadata.default_heads)
    _check_tensors(folder / metadata.weights.file, tensors, model.state_dict())
    differing = _differing_tables(tensors, model.state_dict())
    if differing:
        raise LamError(f"'{folder}' is damaged: {differing} in {METADATA_FILE} are not those in the weights.")
    model.load_state_dict(tensors)
    return model.eval(), metadata


def load_metadata(path: str | Path) -> CheckpointMetadata:
    """Read only the JSON of a checkpoint, without its weights.

    Raises:
        LamError: if it is missing, damaged or too new.
    """
    file = checkpoint_folder(path) / METADATA_FILE
    if not file.is_file():
        raise LamError(f"'{file.parent}' is no checkpoint: it has no {METADATA_FILE}.")
    if file.stat().st_size > MAX_METADATA_BYTES:
        raise LamError(f"'{file}' is damaged: {file.stat().st_size} bytes are too many for a model.json.")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise LamError(f"'{file}' is damaged: it is not valid JSON ({error}).") from None
    values = _current(values, file)
    missing = sorted(set(CheckpointMetadata.model_fields) - set(values))
    if missing or values["weights"] is None:
        raise LamError(f"'{file}' is damaged: it lacks {', '.join(missing) or 'weights'}.")
    metadata = CheckpointMetadata.parse(values, where=f"'{file}'")
    _check_heads(metadata, file)
    if Path(metadata.weights.file).name != metadata.weights.file:
        raise LamError(f"'{file}' is refused: its weights must lie beside it, not at '{metadata.weights.file}'.")
    return metadata


def checkpoint_folder(path: str | Path) -> Path:
    """Return the folder of a checkpoint, given the folder or one of its two files.

    Raises:
        LamError: if there is no such folder or file, or the file is of another kind.
    """
    path = Path(path)
    if path.is_dir():
        return path
    if not path.exists():
        raise LamError(f"There is no checkpoint '{path}'.")
    if path.suffix not in (".json", ".safetensors"):
        raise LamError(f"'{path}' is no checkpoint: give the folder that holds {METADATA_FILE} and {WEIGHTS_FILE}.")
    return path.parent


def _current(values: Any, file: Path) -> dict[str, Any]:
    """Check that ``values`` are a checkpoint's, and bring them to the present format version."""
    if not isinstance(values, dict) or values.get("format") != FORMAT_NAME:
        raise LamError(f"'{file}' is no lam checkpoint: its 'format' is not \"{FORMAT_NAME}\".")
    number = values.get("format_version")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise LamError(f"'{file}' is damaged: 'format_version' is {number!r}, not a positive whole number.")
    if number > FORMAT_VERSION:
        raise LamError(
            f"'{file}' was written by a newer lam (format {number}, this lam reads up to {FORMAT_VERSION}); "
            "upgrade lam."
        )
    return upgrade(values, to=FORMAT_VERSION)


def _check_heads(metadata: CheckpointMetadata, file: Path) -> None:
    names = [head.name for head in metadata.heads]
    unknown = set(metadata.default_heads) - set(names)
    if not names or len(set(names)) < len(names) or unknown or not metadata.default_heads:
        raise LamError(f"'{file}' is damaged: its heads {names} and default heads {metadata.default_heads} do not fit.")
    known = set(chemical_symbols[1 : metadata.architecture.max_atomic_number + 1])
    for head in metadata.heads:
        strange = sorted({*head.elements, *head.reference_energies} - known)
        if strange:
            raise LamError(f"'{file}' is damaged: its head '{head.name}' has unknown elements {', '.join(strange)}.")


def _read_weights(file: Path, info: WeightsInfo) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise LamError(f"The checkpoint '{file.parent}' is incomplete: {file.name} is missing.")
    size = file.stat().st_size
    if size != info.bytes:
        raise LamError(f"'{file}' is damaged: it has {size} bytes instead of {info.bytes}; copy it again.")
    data = file.read_bytes()
    if _sha256(data) != info.sha256:
        raise LamError(f"'{file}' is damaged: its sha256 is not the one in {METADATA_FILE}; copy it again.")
    try:
        return load(data)
    except SafetensorError as error:
        raise LamError(f"'{file}' is damaged: {error}.") from None


def _check_tensors(file: Path, found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Compare names, shapes and types with those of a freshly built model."""
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        both = (("lacks", missing), ("has unknown", extra))
        parts = [f"{label} {', '.join(names)}" for label, names in both if names]
        raise LamError(f"'{file}' does not fit the architecture in {METADATA_FILE}: it {' and '.join(parts)}.")
    for name, tensor in wanted.items():
        have, want = found[name], tensor
        if have.shape != want.shape or have.dtype != want.dtype:
            raise LamError(
                f"'{file}' does not fit the architecture in {METADATA_FILE}: tensor {name} is "
                f"{have.dtype} {tuple(have.shape)} instead of {want.dtype} {tuple(want.shape)}."
            )


def _differing_tables(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> str:
    """Name the tables that stand in both files and differ; empty if none does."""
    differing = [key for key in _IN_BOTH_FILES if not torch.equal(found[key], wanted[key])]
    return " and ".join(_IN_BOTH_FILES[key] for key in differing)


def _complete(metadata: CheckpointMetadata, model: Potential, weights: WeightsInfo) -> CheckpointMetadata:
    elements: dict[str, int] = {}
    for head in model.heads:
        for symbol, count in head.elements.items():
            elements[symbol] = elements.get(symbol, 0) + count
    return metadata.model_copy(
        update={
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "architecture": model.config,
            "heads": list(model.heads),
            "default_heads": list(model.default_heads),
            "elements": elements,
            "versions": _versions(),
            "weights": weights,
        }
    )


def _versions() -> dict[str, str]:
    libraries = {package: version(package) for package in ("torch", "e3nn", "numpy", "safetensors")}
    return {"lam": lam.__version__, "python": platform.python_version(), **libraries}


def _finite(value: Any) -> Any:
    """Return ``value`` with null for every NaN or infinite number, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fresh(config: ModelConfig, heads: list[HeadInfo], default_heads: list[str]) -> Potential:
    """Build a model without touching the caller's random numbers."""
    with torch.random.fork_rng(devices=[]):
        return Potential(config, heads, default_heads)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
