"""Started by torchrun in test_processes.py: train, and keep the gradients of every step."""

import os
import sys

import lightning.pytorch as pl
import torch
from safetensors.torch import save_file

from lam.config import load_config
from lam.train.config import PretrainConfig
from lam.train.run import pretrain


class Gradients(pl.Callback):
    """Collects the gradients before each step."""

    def __init__(self) -> None:
        self.found = {}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        for name, parameter in module.named_parameters():
            self.found[f"{trainer.global_step}.{name}"] = parameter.grad.detach().clone()


if __name__ == "__main__":
    torch.set_num_threads(1)
    gradients = Gradients()
    pretrain(load_config(PretrainConfig, sys.argv[1]), callbacks=[gradients])
    if os.environ["RANK"] == "0":
        save_file(gradients.found, sys.argv[2])
