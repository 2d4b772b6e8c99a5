"""Pretraining from a configuration: data, heads, model, Lightning, checkpoint."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger

from lam.checkpoint import CheckpointMetadata, save_checkpoint
from lam.config import load_config
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import Manifest, load_manifest
from lam.data.references import reference_report
from lam.errors import LamError
from lam.model import Potential
from lam.train.config import PretrainConfig
from lam.train.data import DataModule
from lam.train.heads import HeadStatistics, head_statistics
from lam.train.module import TrainingModule
from lam.train.state_io import SafetensorsCheckpointIO

log = logging.getLogger("lam")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def pretrain_from_file(path: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Pretrain as a YAML file says, with ``key=value`` overrides; return the checkpoint's folder.

    Raises:
        LamError: if the configuration or the data cannot be used.
    """
    return pretrain(load_config(PretrainConfig, path, overrides))


def pretrain(config: PretrainConfig) -> Path:
    """Pretrain, or go on with the unfinished training in ``config.output``.

    Returns:
        The folder of the checkpoint, ``output/name``.

    Raises:
        LamError: if the data cannot be used, or the output folder holds another training.
    """
    output = Path(config.output)
    if (output / config.name).exists():
        raise LamError(f"'{output / config.name}' exists: this training is finished. Choose another 'output'.")
    pl.seed_everything(config.seed, verbose=False)
    manifest = load_manifest(config.manifest)
    architecture = config.model_config_of_run()
    data = _data_module(config, manifest, architecture.cutoff)
    statistics = [head_statistics(data.train, index) for index in range(len(data.train.names))]
    trainer = build_trainer(config)
    if trainer.is_global_zero:
        _report_heads(statistics, output)
        _remember_config(config, output)
    model = Potential(architecture, [s.info for s in statistics], config.default_heads or None)
    _check_default_heads(model)
    module = TrainingModule(
        model.to(DTYPES[config.precision]),
        loss=config.loss,
        optimizer=config.optimizer,
        steps=config.steps,
        force_scale=torch.tensor([s.force_rms for s in statistics]),
        describe=data.train.name_of,
    )
    resume = output / "state" / "last.ckpt"
    started = time.time()
    trainer.fit(module, data, ckpt_path=resume if resume.exists() else None)
    if trainer.global_step < config.steps:
        raise LamError(f"The training stopped at step {trainer.global_step}; run the same command to go on.")
    target = output / config.name
    if trainer.is_global_zero:
        training = {
            "config": config.to_dict(),
            "steps": trainer.global_step,
            "processes": trainer.world_size,
            "seconds_of_last_run": round(time.time() - started, 1),
            "splits": {name: split.mode for name, split in zip(data.train.names, data.train.splits, strict=True)},
        }
        save_checkpoint(target, module.model, metadata=CheckpointMetadata(name=config.name, training=training))
        print(f"Wrote the checkpoint {target}", flush=True)
    trainer.strategy.barrier()
    return target


def build_trainer(config: PretrainConfig) -> pl.Trainer:
    """Return the Lightning trainer: one process, or all that torchrun or SLURM started."""
    output = Path(config.output)
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(
            dirpath=output / "state",
            filename="last",
            every_n_train_steps=config.log.checkpoint_every,
            save_on_train_epoch_end=False,
            save_top_k=1,
            monitor=None,
            enable_version_counter=False,
        ),
        EMAWeightAveraging(decay=config.optimizer.ema_decay, use_buffers=False),
    ]
    progress = sys.stderr.isatty()
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    silence_lightning()
    # Small graphs and gloo: Lightning's own choice of strategy is ddp when a launcher says so.
    world = _launched_processes()
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=world.devices,
        num_nodes=world.nodes,
        strategy="ddp" if world.devices * world.nodes > 1 else "auto",
        max_steps=config.steps,
        max_epochs=-1,
        precision="64-true" if config.precision == "float64" else "32-true",
        callbacks=callbacks,
        logger=_loggers(config, output),
        plugins=[SafetensorsCheckpointIO()],
        log_every_n_steps=config.log.every,
        val_check_interval=min(config.log.validate_every, config.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        gradient_clip_val=config.optimizer.gradient_clip,
    )


class _Processes:
    """How many processes a launcher started: ``devices`` on each of ``nodes``."""

    def __init__(self, devices: int, nodes: int) -> None:
        self.devices, self.nodes = devices, nodes


def _launched_processes() -> _Processes:
    """Read the environment of torchrun or SLURM; without either, one process."""
    import os

    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", str(world))))
    return _Processes(local, max(1, world // local))


def _data_module(config: PretrainConfig, manifest: Manifest, cutoff: float) -> DataModule:
    dtype = DTYPES[config.precision]
    train = MultiTaskDataset(manifest, "train", cutoff, dtype)
    return DataModule(
        train,
        MultiTaskDataset(manifest, "val", cutoff, dtype),
        batch=config.batch,
        steps=config.steps,
        seed=config.seed,
        validation_structures=config.log.validation_structures,
    )


def _loggers(config: PretrainConfig, output: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(output, name="log", flush_logs_every_n_steps=config.log.every)]
    if config.log.wandb != "none":
        try:
            from lightning.pytorch.loggers import WandbLogger
        except ImportError:
            raise LamError("log.wandb needs the package wandb: pip install 'lam[wandb]'.") from None
        loggers.append(
            WandbLogger(
                name=config.name,
                project=config.log.wandb_project,
                save_dir=output,
                offline=config.log.wandb == "offline",
            )
        )
    return loggers


def _report_heads(statistics: Sequence[HeadStatistics], output: Path) -> None:
    lines: list[str] = []
    for entry in statistics:
        lines += reference_report(entry.fit, name=entry.info.name)
        lines.append(f"  scale {entry.info.energy_scale:.4g} eV, force RMS {entry.force_rms:.4g} eV/A")
    output.mkdir(parents=True, exist_ok=True)
    (output / "references.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    open_ones = sum(not entry.fit.determined for entry in statistics)
    print(
        f"{len(statistics)} heads, {sum(s.info.n_structures for s in statistics)} training structures; "
        f"reference energies in {output / 'references.txt'} ({open_ones} heads with open combinations)",
        flush=True,
    )


def _remember_config(config: PretrainConfig, output: Path) -> None:
    """Write the full configuration beside the training; refuse to go on with another one."""
    import yaml

    file = output / "config.yaml"
    values: dict[str, Any] = config.to_dict()
    if file.exists() and (output / "state" / "last.ckpt").exists():
        before = yaml.safe_load(file.read_text(encoding="utf-8"))
        ignored = {"log", "output", "accelerator", "steps"}
        changed = [key for key in values if key not in ignored and before.get(key) != values[key]]
        if changed:
            raise LamError(
                f"'{output}' holds an unfinished training with other settings ({', '.join(changed)} differ); "
                "choose another 'output', or remove its folder 'state' to start anew."
            )
    output.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _check_default_heads(model: Potential) -> None:
    for name in model.default_heads:
        model.head_index(name)


def silence_lightning() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (".*does not have many workers.*", ".*GPU available.*", ".*`training_step` returned.*"):
        warnings.filterwarnings("ignore", text)
