"""Train one row of the ablations and measure it; started by ablations.py."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from ablation_rows import BASES, SETS, Row, find
from ablation_variants import apply

from lam import keys
from lam.checkpoint import load_checkpoint
from lam.config import load_config
from lam.data.dataset import MultiTaskDataset
from lam.data.graph import collate
from lam.data.manifest import load_manifest, save_manifest
from lam.data.sampler import SequentialBudgetSampler
from lam.model import Potential
from lam.train.config import PretrainConfig
from lam.train.errors import dataset_errors
from lam.train.run import pretrain

CALIBRATION_STEPS = 40
WARM_UP = 8
YARDSTICK_SECONDS = 0.0136
"""What the yardstick takes on an idle core of the machine that the results were made on (AMD EPYC)."""


class Yardstick:
    """A fixed piece of arithmetic like the model's: what a second of CPU time is worth at the moment.

    Neighbours on the same processor slow a core down by up to half. The time of a step over that of the
    yardstick, measured in turns, is what tells a cheap variant from a lucky moment.
    """

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.start = torch.randn(16, 135, 64, generator=random)
        self.weight = torch.randn(16, 64, 64, generator=random)
        self.table = torch.randn(38, 16, generator=random)

    @torch.no_grad()
    def __call__(self) -> float:
        """Run once; return its CPU seconds."""
        begin = time.process_time()
        x = self.start
        for _ in range(10):
            x = torch.bmm(x, self.weight)
            x = x * torch.rsqrt(1 + x.square().mean())
            grid = (self.table @ x.reshape(16, -1)).square()
            x = torch.sin((self.table.T @ grid).view(16, 135, 64) * 0.01 + self.start)
        return time.process_time() - begin


class Calibration(pl.Callback):
    """Measures the steps in turns with the yardstick."""

    def __init__(self) -> None:
        self.yardstick = Yardstick()
        self.ratios: list[float] = []
        self.atoms: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        self.before = self.yardstick()
        self.begin = time.process_time()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Note the time of a step over that of the yardstick before and after it."""
        taken = time.process_time() - self.begin
        after = self.yardstick()
        self.ratios.append(2 * taken / (self.before + after))
        self.atoms.append(int(batch[keys.N_ATOMS].sum()))
        self.before, self.begin = after, time.process_time()

    @property
    def per_step(self) -> float:
        """Seconds of a step on an idle core."""
        return YARDSTICK_SECONDS * statistics.median(self.ratios[WARM_UP:])

    @property
    def atoms_per_second(self) -> float:
        """Atoms per second of training on an idle core."""
        return statistics.mean(self.atoms) / self.per_step


class Clock(pl.Callback):
    """Notes the CPU time of a training."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        self.times.append(time.process_time())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Note the time after a step."""
        self.times.append(time.process_time())

    @property
    def seconds(self) -> float:
        """CPU seconds of all steps."""
        return self.times[-1] - self.times[0]


def configuration(row: Row, folder: Path, args: argparse.Namespace) -> PretrainConfig:
    """Return the settings of a row but the number of steps."""
    base, task, seed, manifest = BASES[args.task], args.task, args.seed, args.manifest
    overrides = [*base.overrides, *args.also, *row.overrides, f"seed={seed}", f"output={folder / 'run'}", "name=row"]
    path = manifest or Path(base.manifest)
    if task == "mixed":
        chosen = load_manifest(path).select(list(SETS))
        path = folder / "manifest.yaml"
        save_manifest(chosen, path)
    return load_config(PretrainConfig, base.config, [*overrides, f"manifest={path}"])


def train(config: PretrainConfig, steps: int, folder: Path, watch: pl.Callback) -> Path:
    """Train for some steps, watched by a callback; return the checkpoint."""
    warm_up = min(config.optimizer.warmup_steps, steps // 10)
    values = config.to_dict()
    values["optimizer"]["warmup_steps"] = warm_up
    values |= {"steps": steps, "output": str(folder)}
    values["log"] |= {"validate_every": max(steps, 1), "checkpoint_every": 10**9, "every": max(steps // 10, 1)}
    return pretrain(PretrainConfig.parse(values), [watch])


def inference_time(model: Potential, dataset: MultiTaskDataset) -> float:
    """Return the CPU microseconds per atom of energy and forces on an idle core, on about 500 atoms."""
    items = next(iter(SequentialBudgetSampler(dataset, 540, 10**9)))
    batch = collate([dataset[item] for item in items])
    model.eval().requires_grad_(False)
    ratios, yardstick = [], Yardstick()
    for _ in range(12):
        before = yardstick()
        start = time.process_time()
        model(batch, stress=False)
        taken = time.process_time() - start
        ratios.append(2 * taken / (before + yardstick()))
    return 1e6 * YARDSTICK_SECONDS * statistics.median(ratios[2:]) / int(batch[keys.N_ATOMS].sum())


def errors(model: Potential, dataset: MultiTaskDataset, task: str, per_set: int) -> dict[str, Any]:
    """Return the validation errors of a task."""
    found = dataset_errors(model, dataset, max_per_dataset=per_set)
    if task != "mixed":
        [values] = found.values()
        atoms = int(dataset.n_atoms[0])
        return {
            "error": 1000 * values["force_rmse"],
            "error_unit": "meV/A (RMSE)",
            "energy": 1000 * atoms * values["energy_rmse"],
            "energy_unit": "meV (RMSE)",
        }
    ratios = {name: values["force_ratio"] for name, values in found.items() if "force_ratio" in values}
    return {
        "error": 100 * statistics.median(ratios.values()),
        "error_unit": "% of zero forces (median)",
        "energy": 1000 * statistics.median(values["energy_mae"] for values in found.values()),
        "energy_unit": "meV/atom (median MAE)",
        "sets": ratios,
    }


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--also", nargs="*", default=[])
    parser.add_argument("--manifest", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    row = find(args.name)
    apply(row.variant)
    with tempfile.TemporaryDirectory(prefix="lam-ablation-") as name:
        folder = Path(name)
        config = configuration(row, folder, args)
        calibration, clock = Calibration(), Clock()
        train(config, CALIBRATION_STEPS, folder / "calibration", calibration)
        steps = max(20, round(args.budget / calibration.per_step))
        target = train(config, steps, folder / "whole", clock)
        model, _ = load_checkpoint(target)
        dataset = MultiTaskDataset(load_manifest(config.manifest), "val", model.cutoff)
        result = {
            "task": args.task,
            "name": row.name,
            "budget": args.budget,
            "seed": args.seed,
            "also": args.also,
            "overrides": row.overrides,
            "variant": row.variant,
            "steps": steps,
            "cpu_seconds": clock.seconds,
            "atoms_per_second": calibration.atoms_per_second,
            **errors(model, dataset, args.task, config.log.validation_structures),
            "parameters": sum(p.numel() for p in model.parameters() if p.shape[:1] != (119,)),
            "inference_us": inference_time(model, dataset),
        }
    args.out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
