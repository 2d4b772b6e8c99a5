"""The batch that fits in a given memory, found by training a few steps with batches of several sizes."""

from __future__ import annotations

import multiprocessing
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch

from lam.errors import LamError
from lam.train.config import PretrainConfig
from lam.train.speed import peak_memory

MARGIN = 0.9
"""Part of the memory that is used: the mixture brings fuller batches than those that were tried."""
_STEPS = 4
_FACTORS = (1.0, 2.0, 4.0)
_SMALLEST = 256


class Budget(NamedTuple):
    """What a batch may hold, and what it needs."""

    max_atoms: int
    max_edges: int
    gigabytes: float
    """The most that a process needed with it, in 1e9 bytes: on its GPU, or in all."""


def find_budget(config: PretrainConfig, gigabytes: float, tell: Callable[[str], None] = print) -> Budget:
    """Return the largest batch of a process that fits in memory.

    Each size is tried in a process of its own, by a training of a few steps: model, optimiser, averages and all.
    Memory is taken to grow linearly with the size; the result is tried, too.

    Args:
        config: the training; its ``batch.max_atoms`` and ``max_edges`` do not matter.
        gigabytes: memory for each process, 1e9 bytes: of its GPU, or of the computer.
        tell: is told of each trial.

    Raises:
        LamError: if even a small batch does not fit, or the training cannot start.
    """
    edges_per_atom, largest = _density(config)
    tried = []
    for factor in _FACTORS:
        atoms = int(factor * max(_SMALLEST, largest))
        tried.append(_try(config, atoms, edges_per_atom, tell))
        if tried[-1].gigabytes > MARGIN * gigabytes:
            break
    sizes, needs = [entry.max_atoms for entry in tried], [entry.gigabytes for entry in tried]
    if len(tried) == 1:
        raise LamError(
            f"A batch of {sizes[0]} atoms needs {needs[0]:.2f} GB: more than {MARGIN:.0%} of {gigabytes:g} GB. The "
            f"largest structure has {largest} atoms; take a smaller model or leave such structures out."
        )
    fits = np.isfinite(needs)
    if fits.sum() > 1:
        slope, base = np.polyfit(np.array(sizes)[fits], np.array(needs)[fits], 1)
        atoms = int((MARGIN * gigabytes - base) / max(slope, 1e-12))
    else:
        atoms = sizes[-1] // 2
    for _ in range(4):
        found = _try(config, max(atoms, 1), edges_per_atom, tell)
        if found.gigabytes <= gigabytes * (1 + MARGIN) / 2:
            return found
        atoms = int(0.85 * atoms)
    raise LamError(f"No batch was found that fits in {gigabytes:g} GB; the last one tried has {found.max_atoms} atoms.")


def _density(config: PretrainConfig) -> tuple[float, int]:
    """Return edges per atom, on the generous side, and the atoms of the largest structure."""
    from lam.data.dataset import MultiTaskDataset
    from lam.data.manifest import load_manifest

    data = MultiTaskDataset(load_manifest(config.manifest), "train", config.model_config_of_run().cutoff)
    if not len(data):
        raise LamError(f"'{config.manifest}' has no structure to train on.")
    means = [
        data.n_edges[data.items_of(d)].sum() / data.n_atoms[data.items_of(d)].sum() for d in np.flatnonzero(data.sizes)
    ]
    return float(np.quantile(means, 0.75)), int(data.n_atoms.max())


def _try(config: PretrainConfig, atoms: int, edges_per_atom: float, tell: Callable[[str], None]) -> Budget:
    edges = max(int(atoms * edges_per_atom), 1)
    values = config.to_dict()
    values["batch"] |= {"max_atoms": atoms, "max_edges": edges, "workers": 0}
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(values, theirs))
    process.start()
    theirs.close()
    try:
        result = ours.recv()
    except EOFError:
        result = float("inf")  # killed, by the system most likely
    process.join()
    if isinstance(result, str):
        raise LamError(result)
    tell(f"{atoms} atoms, {edges} edges: {result:.2f} GB")
    return Budget(atoms, edges, result)


class _Enough(Exception):
    """Ends a trial."""


class _Stop(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Note the memory; end after some steps."""
        self.gigabytes = peak_memory(pl_module.device) / 1e9
        if trainer.global_step == _STEPS:
            raise _Enough


def _measure(values: dict[str, Any], connection: Any) -> None:
    """Train some steps; send the peak memory in 1e9 bytes, or what went wrong."""
    from lam.train.run import pretrain

    stop = _Stop()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Dividing a step would hide that it does not fit.
        warnings.filterwarnings("error", ".*(did not fit in memory|needs more memory than there is).*")
        log = values["log"] | {
            "validate_every": 10**9,
            "checkpoint_every": 10**9,
            "wandb": "none",
            "tensorboard": False,
        }
        trial = PretrainConfig.parse(values | {"output": str(Path(folder) / "run"), "steps": 10**6, "log": log})
        torch.set_num_threads(1)
        try:
            pretrain(trial, callbacks=[stop])
        except _Enough:
            connection.send(stop.gigabytes)
        except LamError as error:
            connection.send(str(error))
        except Warning:
            connection.send(float("inf"))
