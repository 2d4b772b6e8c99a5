"""Pretraining from a configuration: data, heads, model, Lightning, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch

from lam.atomic_write import atomic_file
from lam.checkpoint import CheckpointMetadata, save_checkpoint
from lam.config import load_config
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import load_manifest
from lam.data.references import reference_report
from lam.errors import LamError
from lam.model import Potential
from lam.train.callbacks import Averaging
from lam.train.config import PretrainConfig
from lam.train.data import DataModule
from lam.train.errors import record_errors
from lam.train.heads import HeadStatistics, head_statistics
from lam.train.memory import keep_freed_memory
from lam.train.module import TrainingModule
from lam.train.quiet import interruptible, quiet_lightning
from lam.train.randomness import isolated_randomness, seed_all
from lam.train.refit import refit_references
from lam.train.resume import check_settings, remember_settings, state_file
from lam.train.trainer import build_trainer, launched_processes

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def pretrain_from_file(path: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Pretrain as a YAML file says, with ``key=value`` overrides; return the checkpoint's folder.

    Raises:
        LamError: if the configuration or the data cannot be used.
    """
    return pretrain(load_config(PretrainConfig, path, overrides))


def pretrain(config: PretrainConfig, callbacks: Sequence[pl.Callback] = ()) -> Path:
    """Pretrain, or go on with the unfinished training in ``config.output``.

    Args:
        config: the settings.
        callbacks: further Lightning callbacks.

    Returns:
        The folder of the checkpoint, ``output/name``.

    Raises:
        LamError: if the data cannot be used, or the output folder holds another training.
    """
    output, target = Path(config.output), Path(config.output) / config.name
    if target.exists():
        raise LamError(
            f"'{target}' exists: this training is finished. Choose another 'output'; or move the result away "
            "and set more 'steps' to prolong it."
        )
    architecture = config.model_config_of_run()
    config.loss_of_decay()  # raises for a wrong one, before any data is read
    check_settings(config, output)
    keep_freed_memory()
    with isolated_randomness(), quiet_lightning():
        seed_all(config.seed)
        data = _data_module(config, architecture.cutoff)
        averaging = Averaging(config.optimizer.ema_decay)
        trainer = build_trainer(config, averaging, callbacks, validates=bool(data.val and len(data.val)))
        statistics = _statistics(data, output)
        model = Potential(architecture, [s.info for s in statistics], config.default_heads or None)
        for name in model.default_heads:
            model.head_index(name)  # raises for an unknown one
        if trainer.is_global_zero:
            remember_settings(config, output)
        started = time.time()
        module = _train(config, trainer, averaging, model, data, statistics)
        if trainer.is_global_zero:
            training = {
                "config": config.to_dict(),
                "steps": trainer.global_step,
                "processes": trainer.world_size,
                "seconds_of_last_run": round(time.time() - started, 1),
                "splits": {name: split.mode for name, split in zip(data.train.names, data.train.splits, strict=True)},
            }
            model = module.model.to(device="cpu", dtype=torch.float32)
            if config.refit_structures:
                refit_references(model, data.train, per_head=config.refit_structures)
            metrics = _held_out_errors(model, data)
            metadata = CheckpointMetadata(name=config.name, training=training, metrics=metrics)
            save_checkpoint(target, model, metadata=metadata)
            print(f"Wrote the checkpoint {target}", flush=True)
        trainer.strategy.barrier()
    return target


def _train(
    config: PretrainConfig,
    trainer: pl.Trainer,
    averaging: Averaging,
    model: Potential,
    data: DataModule,
    statistics: Sequence[HeadStatistics],
) -> TrainingModule:
    """Take the steps that are left; the result has the averaged weights."""
    module = TrainingModule(
        model.to(DTYPES[config.precision]).train(),
        loss=config.loss,
        final_loss=config.loss_of_decay(),
        optimizer=config.optimizer,
        steps=config.steps,
        force_scale=torch.tensor([s.force_scale for s in statistics]),
        describe=data.train.name_of,
        faults=config.faults,
        parts=config.batch.parts,
        recompute=config.batch.recompute,
    )
    resume = state_file(Path(config.output))
    with interruptible(trainer):
        trainer.fit(module, data, ckpt_path=resume if resume.exists() else None)
    if trainer.global_step < config.steps:
        raise LamError(f"The training stopped at step {trainer.global_step}; run the same command to go on.")
    if trainer.global_step > config.steps:
        raise LamError(
            f"The training in '{config.output}' has done {trainer.global_step} steps already, more than "
            f"steps={config.steps}: set at least so many."
        )
    averaging.apply(trainer, module)
    module.model.backbone.recompute = False
    return module


def _held_out_errors(model: Potential, data: DataModule) -> dict[str, float]:
    """Measure every head on its test split; the errors go into the heads' descriptions."""
    train = data.train
    test = MultiTaskDataset(train.manifest, "test", train.cutoff, heads=model.head_names)
    if not len(test):
        return {}
    print(f"Measuring the errors on {len(test)} held-out structures", flush=True)
    return record_errors(model, test)


def _data_module(config: PretrainConfig, cutoff: float) -> DataModule:
    manifest, dtype = load_manifest(config.manifest), DTYPES[config.precision]
    if launched_processes().first:
        print(f"Reading {len(manifest.datasets)} data sets", flush=True)
    return DataModule(
        MultiTaskDataset(manifest, "train", cutoff, dtype),
        MultiTaskDataset(manifest, "val", cutoff, dtype),
        batch=config.batch,
        steps=config.steps,
        seed=config.seed,
        validation_structures=config.log.validation_structures,
        curriculum=config.curriculum,
        skip_damaged=config.faults.damaged == "skip",
    )


def _statistics(data: DataModule, output: Path) -> list[HeadStatistics]:
    """Fit the reference energies and scales of all heads; write and print a summary."""
    first = launched_processes().first
    if first:
        print(f"Fitting the reference energies of {len(data.train.names)} heads", flush=True)
    statistics = [head_statistics(data.train, index) for index in range(len(data.train.names))]
    if not first:
        return statistics
    lines: list[str] = []
    for entry in statistics:
        lines += reference_report(entry.fit, name=entry.info.name)
        lines.append(f"  scale {entry.info.energy_scale:.4g} eV, force scale {entry.force_scale:.4g} eV/A")
    with atomic_file(output / "references.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    open_ones = sum(not entry.fit.determined for entry in statistics)
    print(
        f"{len(statistics)} heads, {sum(s.info.n_structures for s in statistics)} training structures; "
        f"reference energies in {output / 'references.txt'} ({open_ones} heads with open combinations)",
        flush=True,
    )
    return statistics
