"""The Lightning trainer of a pretraining: processes, precision, callbacks, logs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment

from lam.errors import LamError
from lam.train.callbacks import Averaging, Progress
from lam.train.config import PretrainConfig
from lam.train.faults import Rollback
from lam.train.logs import CsvLog, tensorboard_logger, wandb_logger
from lam.train.rendezvous import join_processes
from lam.train.resume import state_file
from lam.train.speed import Speed
from lam.train.state_io import SafetensorsCheckpointIO
from lam.train.states import ResumableState


class Processes(NamedTuple):
    """How many processes a launcher started: ``devices`` on each of ``nodes``."""

    devices: int
    nodes: int

    @property
    def first(self) -> bool:
        """Is this the process that prints and writes?"""
        return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def launched_processes() -> Processes:
    """Read the environment of torchrun or SLURM; without either, one process."""
    if "WORLD_SIZE" in os.environ:
        world = int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        return Processes(local, max(1, world // local))
    nodes = int(os.environ.get("SLURM_NNODES", "1"))
    return Processes(max(1, int(os.environ.get("SLURM_NTASKS", "1")) // nodes), nodes)


def accelerator(wish: str) -> str:
    """Return Lightning's name of the device to train on.

    Raises:
        LamError: if a GPU is asked for and there is none.
    """
    if wish == "gpu" and not torch.cuda.is_available():
        raise LamError("accelerator=gpu: PyTorch sees no CUDA GPU here; use accelerator=cpu.")
    if wish == "auto":  # not Lightning's auto: Apple's GPUs have no float64, which energies are summed in
        return "gpu" if torch.cuda.is_available() else "cpu"
    return wish


def build_trainer(
    config: PretrainConfig, averaging: Averaging, extra: Sequence[pl.Callback], *, validates: bool
) -> pl.Trainer:
    """Return the Lightning trainer: one process, or all that torchrun or SLURM started.

    Args:
        config: the settings.
        averaging: the average of the weights.
        extra: further callbacks.
        validates: is there validation data?

    Raises:
        LamError: if the device or a logger is not there.
    """
    output = Path(config.output)
    csv = CsvLog(output / "log" / "metrics.csv")
    validate_every = min(config.log.validate_every, config.steps)
    show = sys.stderr.isatty()
    callbacks = [
        averaging,
        Rollback(averaging, config.log.checkpoint_every, config.faults),
        Progress(config.steps, csv),
        Speed(CsvLog(output / "log" / "speed.csv"), config.steps, config.log.every, config.batch.atom_cost),
        ResumableState(
            state_file(output), config.log.checkpoint_every, validate_every if validates else None, config.log.keep
        ),
        *([TQDMProgressBar(refresh_rate=10)] if show else []),
        *extra,
    ]
    world = launched_processes()
    device = accelerator(config.accelerator)
    join_processes(gpu=device == "gpu")
    return pl.Trainer(
        accelerator=device,
        devices=world.devices,
        num_nodes=world.nodes,
        strategy="ddp" if world.devices * world.nodes > 1 else "auto",
        max_steps=config.steps,
        max_epochs=-1,
        precision="64-true" if config.precision == "float64" else "32-true",
        callbacks=callbacks,
        logger=_loggers(config, csv),
        plugins=[SafetensorsCheckpointIO(), *_environment()],
        log_every_n_steps=config.log.every,
        val_check_interval=validate_every,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=show,
        enable_model_summary=False,
        default_root_dir=output,
    )


def _environment() -> list[ClusterEnvironment]:
    """Name the launcher where Lightning's own choice would not do."""
    if TorchElasticEnvironment.detect():
        return [TorchElasticEnvironment()]  # not SLURM, although its tasks may have started torchrun
    if SLURMEnvironment.detect() and launched_processes() != (1, 1):
        # Lightning would write a state of its own from within a signal handler; ours is never old.
        return [SLURMEnvironment(auto_requeue=False)]
    return []


def _loggers(config: PretrainConfig, csv: CsvLog) -> list[Logger]:
    folder = Path(config.output)
    loggers: list[Logger] = [csv]
    if config.log.wandb != "none":
        offline = config.log.wandb == "offline"
        loggers.append(wandb_logger(name=config.name, project=config.log.wandb_project, folder=folder, offline=offline))
    if config.log.tensorboard:
        loggers.append(tensorboard_logger(folder=folder))
    return loggers
