"""Started by torchrun in test_elastic.py: train, note what every process draws, and die at a step if asked to."""

import os
import signal
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch

from lam import keys
from lam.config import load_config
from lam.train.config import PretrainConfig
from lam.train.run import pretrain


class Notes(pl.Callback):
    """Writes ``step task structure`` of all that a process draws; rank ``victim`` kills itself once."""

    def __init__(self, folder: Path, victim: int, step: int) -> None:
        self.folder, self.victim, self.step = folder, victim, step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        with open(self.folder / f"drawn-{trainer.global_rank}.txt", "a") as file:
            for task, structure in zip(batch[keys.TASK].tolist(), batch[keys.STRUCTURE_ID].tolist(), strict=True):
                file.write(f"{trainer.global_step} {task} {structure}\n")
        dead = self.folder / "dead"
        if trainer.global_rank == self.victim and trainer.global_step == self.step and not dead.exists():
            dead.touch()
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    config, folder, victim, step = sys.argv[1:]
    pretrain(load_config(PretrainConfig, config), callbacks=[Notes(Path(folder), int(victim), int(step))])
