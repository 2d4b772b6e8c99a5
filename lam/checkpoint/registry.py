"""The models that ship inside the package, by name."""

from __future__ import annotations

from pathlib import Path

from lam.checkpoint.format import METADATA_FILE, checkpoint_folder, load_checkpoint
from lam.errors import LamError, unknown_name
from lam.model.potential import Potential

ASSETS = Path(__file__).resolve().parent.parent / "assets"
"""Folder of the shipped checkpoints, one folder per name."""


def available() -> list[str]:
    """Return the names of the shipped models, sorted."""
    return sorted(file.parent.name for file in ASSETS.glob(f"*/{METADATA_FILE}"))


def resolve(name_or_path: str | Path) -> Path:
    """Return the folder of a checkpoint, given the name of a shipped model or a path.

    A name means the shipped model even where a folder of the same name lies in the current directory;
    write ``./lam-nano`` for the folder.

    Raises:
        LamError: if it is neither; the message lists the names.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in available():
        return ASSETS / text
    if text and Path(text).exists():
        return checkpoint_folder(text)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text:
        raise LamError(f"There is no checkpoint '{text}'.")
    raise LamError(f"{unknown_name('model', text, available())} The path of a checkpoint folder works too.")


def load(name_or_path: str | Path) -> Potential:
    """Load a potential, ready to predict.

    Args:
        name_or_path: the name of a shipped model (``lam models`` lists them), or the path of a checkpoint.

    Returns:
        The :class:`~lam.model.potential.Potential` in evaluation mode (float32, on the CPU), with its
        :class:`~lam.checkpoint.CheckpointMetadata` as the attribute ``metadata``.

    Raises:
        LamError: if there is no such model, or its files are damaged or too new.
    """
    model, metadata = load_checkpoint(resolve(name_or_path))
    model.metadata = metadata
    return model
