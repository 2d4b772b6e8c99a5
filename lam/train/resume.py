"""What must be the same for a training to go on: settings here, data and model in the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lam.atomic_write import atomic_file
from lam.config.load import read_yaml
from lam.errors import LamError
from lam.train.config import PretrainConfig

# May differ when a training goes on.
_FREE = (
    "log",
    "output",
    "accelerator",
    "steps",
    "batch.max_atoms",  # the training goes on behind the last structure seen, with batches of any size
    "batch.max_edges",
    "batch.workers",
    "batch.cache_mb",
    "batch.parts",
    "batch.recompute",
    "batch.atom_cost",
    "optimizer.shard",
    "faults",
    "refit_structures",
)


def state_file(output: Path) -> Path:
    """Return the resumable state of the training in a folder."""
    return output / "state" / "last.ckpt"


def check_settings(config: PretrainConfig, output: Path) -> None:
    """Refuse to go on with a training of other settings.

    Raises:
        LamError: naming each setting that differs, with both values.
    """
    file = output / "config.yaml"
    if not state_file(output).exists() or not file.exists():
        return
    # Parsed, so that settings which this version added take their defaults.
    before = _flat(PretrainConfig.parse(read_yaml(file), where=f"'{file}'").to_dict())
    now = _flat(config.to_dict())
    changed = [
        f"{key} was {before.get(key)!r} and is now {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not any(key == free or key.startswith(free + ".") for free in _FREE)
    ]
    if changed:
        raise LamError(
            f"'{output}' holds an unfinished training with other settings ({'; '.join(changed)}); "
            "choose another 'output', or remove its folder 'state' to start anew."
        )


def remember_settings(config: PretrainConfig, output: Path) -> None:
    """Write the full configuration beside the training, and clear away what a kill left half-written."""
    for leftover in (output / "state").glob(".*.ckpt.*"):
        leftover.unlink(missing_ok=True)
    with atomic_file(output / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding="utf-8")


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat
