"""How fast a training is, and what it waits for: a log of its own, because it differs from run to run."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch import distributed as dist

from lam import keys
from lam.data.balance import ATOM_COST
from lam.train.logs import CsvLog
from lam.train.processes import largest_over_processes, several, sum_over_processes


class Speed(pl.Callback):
    """Writes atoms per second, waiting, uneven work and memory every so many steps.

    Columns: ``speed/atoms_per_second`` over all processes; ``speed/seconds_per_step``; ``speed/waiting``, the share of
    the time in which no step was under way (reading data, validation, writing states), the mean of the processes;
    ``speed/imbalance``, the work of the busiest process over the mean, 1 if even; ``speed/memory_gb``, the most that
    any process has used so far; ``speed/hours_to_go``.

    Args:
        csv: the log.
        steps: steps of the whole training.
        every: steps between entries.
        atom_cost: time of an atom over that of an edge.
    """

    def __init__(self, csv: CsvLog, steps: int, every: int, atom_cost: float = ATOM_COST) -> None:
        self.csv, self.steps, self.every, self.atom_cost = csv, steps, every, atom_cost

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on in the log of a training that is resumed."""
        self.csv.resume(trainer.global_step)
        self._begin()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Note what the step is about to work through."""
        self._step_began = time.perf_counter()
        self._atoms += len(batch[keys.ATOMIC_NUMBERS])
        self._costs.append(batch[keys.EDGE_INDEX].shape[1] + self.atom_cost * len(batch[keys.ATOMIC_NUMBERS]))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Write an entry if one is due."""
        self._busy += time.perf_counter() - self._step_began
        if trainer.global_step % self.every:
            return
        row = self._row(trainer, pl_module.device)
        for logger in (self.csv, *trainer.loggers[1:]):
            logger.log_metrics(row, step=trainer.global_step - 1)
        self._begin()

    def _begin(self) -> None:
        self._since, self._busy, self._atoms, self._costs = time.perf_counter(), 0.0, 0, []

    def _row(self, trainer: pl.Trainer, device: torch.device) -> dict[str, float]:
        seconds, steps = time.perf_counter() - self._since, len(self._costs)
        sums = torch.tensor([self._atoms, seconds, self._busy], dtype=torch.float64, device=device)
        atoms, all_seconds, busy = sum_over_processes(sums).tolist()
        memory = torch.tensor([peak_memory(device) / 1e9], dtype=torch.float64, device=device)
        per_step = seconds / steps
        return {
            "speed/atoms_per_second": atoms / seconds,
            "speed/seconds_per_step": per_step,
            "speed/waiting": 1.0 - busy / all_seconds,
            "speed/imbalance": self._imbalance(device),
            "speed/memory_gb": float(largest_over_processes(memory)),
            "speed/hours_to_go": per_step * (self.steps - trainer.global_step) / 3600,
        }

    def _imbalance(self, device: torch.device) -> float:
        """Return the work of the busiest process over the mean, averaged over the steps."""
        if not several():
            return 1.0
        mine = torch.tensor(self._costs, dtype=torch.float64, device=device)
        everyones = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(everyones, mine)
        costs = torch.stack(everyones)
        return float((costs.amax(0) / costs.mean(0)).mean())


def peak_memory(device: torch.device) -> float:
    """Return the most memory that this process has taken, in bytes: on its GPU, or in all."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_reserved(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024)
