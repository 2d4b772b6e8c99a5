"""How well training uses the processes it is given: speed and scaling, even work, the loader, the cost of an atom.

    python benchmarks/training.py imbalance   # work of the busiest rank over the mean, 2 to 64 ranks; no training
    python benchmarks/training.py scaling     # atoms per second with 1 and 2 processes (GPUs where there are)
    python benchmarks/training.py loader      # what the loader delivers over what training takes in; 0, 1, 2 workers
    python benchmarks/training.py cost        # time of an atom over that of an edge: ATOM_COST of lam/data/balance.py

Each writes ``training_<part>.json`` and ``.md`` to runs/benchmarks, ``imbalance`` also a plot. That one
needs no quiet machine, the others do: they take the best of several rounds, and ratios of what was measured in turn.
`python benchmarks/training_throughput.py` times a step of the presets alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from harness import report
from harness.step_cost import fitted, least, steps_of_densities
from harness.turns import take_turns, timed

BENCHMARKS = Path(__file__).resolve().parent
PROJECT = BENCHMARKS.parent
EDGES_PER_ATOM = 48
"""Of the budgets: as in configs/pretrain."""
Sections = list[tuple[str, list[str], list[list[str]]]]


# -- imbalance ---------------------------------------------------------------------------------


def imbalance(args: argparse.Namespace) -> tuple[dict[str, Any], Sections]:
    """Measure the work of the busiest rank over the mean, step by step, from the sampler alone."""
    data = data_module(args.manifest, args.preset)
    rows, samples = [], {}
    for atoms in args.budgets:
        for ranks in args.ranks:
            report.progress(f"{atoms} atoms a rank, {ranks} ranks")
            values = np.array(list(uneven(data, atoms, ranks, args.batches, args.dealt_by, args.judged_by)))
            samples[atoms, ranks] = values
            within = float((values <= 1.05).mean())
            rows.append({"atoms": atoms, "ranks": ranks, "within": within, **summary_of(values)})
    draw_imbalance(samples, args.out / "training-imbalance.png")
    table = [
        [f"{row['atoms']:,} atoms a rank, {row['ranks']} ranks"]
        + [f"{row[name]:.3f}" for name in ("mean", "median", "high", "largest")]
        + [f"{100 * row['within']:.0f} %"]
        for row in rows
    ]
    header = ["", "mean", "median", "95 %", "largest", "steps within 5 %"]
    title = f"Work of the busiest rank over the mean, {args.batches} steps, {len(data.train):,} structures"
    return {"rows": rows, "structures": len(data.train)}, [(title, header, table)]


def summary_of(values: np.ndarray) -> dict[str, float]:
    """Return mean, median, what one step in twenty exceeds, and the largest."""
    high = float(np.quantile(values, 0.95))
    return {
        "mean": float(values.mean()), "median": float(np.median(values)), "high": high, "largest": float(values.max())
    }  # fmt: skip


def uneven(
    data: Any, atoms: int, ranks: int, batches: int, dealt_by: float | None = None, judged_by: float | None = None
) -> Iterator[float]:
    """Yield the work of the busiest rank over the mean, for the first steps of a training.

    Args:
        data: the data module.
        atoms: budget of a rank.
        ranks: number of ranks.
        batches: number of steps.
        dealt_by: cost of an atom by which structures are dealt out; by default that of training.
        judged_by: cost of an atom by which the work is counted; by default the same.
    """
    from lam.data.balance import ATOM_COST, costs_of, share
    from lam.data.balance import imbalance as busiest_over_mean

    dealt_by = ATOM_COST if dealt_by is None else dealt_by
    judged_by = dealt_by if judged_by is None else judged_by
    batch = data.batch.model_copy(
        update={"max_atoms": atoms, "max_edges": EDGES_PER_ATOM * atoms, "atom_cost": dealt_by}
    )
    data.batch, data.steps = batch, batches
    sampler = data.sampler(world_size=ranks)
    for items in sampler.global_batches():
        shares = share(items, sampler.costs(items), ranks)
        judged = [costs_of(sampler.n_atoms[own], sampler.n_edges[own], judged_by).sum() for own in shares]
        yield busiest_over_mean(np.array(judged))


def draw_imbalance(samples: dict[tuple[int, int], np.ndarray], path: Path) -> None:
    """Draw the distributions: one panel for each budget, one curve for each number of ranks."""
    budgets, ranks = (sorted({key[place] for key in samples}) for place in (0, 1))
    panels = report.new_axes(3.2 * len(budgets), 3.4, columns=len(budgets))
    for axes, atoms in zip(np.atleast_1d(panels), budgets, strict=True):
        for count in ranks:
            values = np.sort(samples[atoms, count])
            axes.plot(values, np.arange(1, len(values) + 1) / len(values), label=f"{count} ranks")
        axes.axvline(1.05, color="black", linewidth=0.8, linestyle="--")
        axes.set(title=f"{atoms:,} atoms a rank", xlabel="busiest rank / mean", ylim=(0, 1.02))
        axes.set_xlim(0.995, max(1.06, *(np.quantile(samples[atoms, count], 0.99) for count in ranks)))
    np.atleast_1d(panels)[0].set_ylabel("share of steps")
    np.atleast_1d(panels)[0].legend(fontsize=8, frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    report.save_plot(np.atleast_1d(panels)[0], path)


# -- scaling -----------------------------------------------------------------------------------


def scaling(args: argparse.Namespace) -> tuple[dict[str, Any], Sections]:
    """Train with different numbers of processes in turn, the same budget for each of them."""
    import torch

    runs: dict[int, list[dict[str, float]]] = {count: [] for count in args.processes}
    with tempfile.TemporaryDirectory(prefix="lam-training-") as folder:
        for number in range(args.rounds):
            for count in args.processes:
                report.progress(f"round {number + 1} of {args.rounds}: {count} processes")
                runs[count].append(trained(args, count, Path(folder) / f"{count}-{number}"))
    first = args.processes[0]
    alone = max(run["rate"] for run in runs[first]) / first
    best = {count: max(found, key=lambda run: run["rate"]) for count, found in runs.items()}
    rows = [{**run, "processes": n, "efficiency": run["rate"] / n / alone} for n, run in best.items()]
    table = [
        [str(row["processes"])]
        + [report.number(value) for value in (row["rate"], row["rate"] / row["processes"])]
        + [f"{100 * row['efficiency']:.0f} %", f"{100 * row['waiting']:.0f} %"]
        + [f"{row['imbalance']:.3f}", report.number(row["memory"])]
        for row in rows
    ]
    header = ["processes", "atoms/s", "... of each", "efficiency", "waiting", "imbalance", "memory, GB"]
    kind = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    title = f"Training of {args.preset}, {args.atoms} atoms a process, {kind}: best of {args.rounds} rounds"
    return {"rows": rows, "runs": runs}, [(title, header, table)]


def trained(args: argparse.Namespace, processes: int, output: Path) -> dict[str, float]:
    """Train for some steps and return the medians of the log of the speed, its first half left out."""
    every = max(1, args.steps // 20)
    settings = {
        "output": str(output), "manifest": str(args.manifest), "preset": args.preset, "steps": args.steps,
        "batch": {"max_atoms": args.atoms, "max_edges": EDGES_PER_ATOM * args.atoms, "workers": args.workers[-1]},
        "log": {"every": every, "checkpoint_every": 10**9, "validate_every": 10**9, "validation_structures": 1},
    }  # fmt: skip
    output.mkdir(parents=True)
    (output / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*launcher, str(PROJECT / "train.py"), str(output / "settings.yaml")],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"training with {processes} processes failed: {done.stderr.strip().splitlines()[-3:]}")
    with open(output / "log" / "speed.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    rows = rows[len(rows) // 2 :]

    def median(name: str) -> float:
        return statistics.median(float(row[f"speed/{name}"]) for row in rows)

    return {
        "rate": median("atoms_per_second"), "waiting": median("waiting"), "imbalance": median("imbalance"),
        "memory": median("memory_gb"),
    }  # fmt: skip


# -- loader ------------------------------------------------------------------------------------


def loader(args: argparse.Namespace) -> tuple[dict[str, Any], Sections]:
    """Measure what the loader delivers and what training takes in, in turn."""
    import torch

    torch.set_num_threads(1)
    data = data_module(args.manifest, args.preset)
    data.batch = data.batch.model_copy(
        update={"max_atoms": args.atoms, "max_edges": EDGES_PER_ATOM * args.atoms, "cache_mb": args.cache}
    )
    data.steps = 10**6
    eaten: list[dict[str, float]] = []
    delivered: dict[int, list[dict[str, float]]] = {count: [] for count in args.workers}
    step = appetite(data, args.preset)
    for number in range(args.rounds):
        report.progress(f"round {number + 1} of {args.rounds}")
        eaten.append(rate_of(step, args.seconds))
        for count in args.workers:
            batches = batches_of(data, count)
            rate_of(lambda batches=batches: atoms_in(next(batches)), args.seconds)  # workers start
            delivered[count].append(rate_of(lambda batches=batches: atoms_in(next(batches)), args.seconds))
            del batches
    best = max(entry["rate"] for entry in eaten)
    cpu = min(entry["cpu"] for entry in eaten)
    rows = [["training alone", report.number(best), "1", report.number(1e6 * cpu), "1"]]
    for count, found in delivered.items():
        rate = max(entry["rate"] for entry in found)
        line = [f"loader, {count} workers", report.number(rate), report.number(rate / best)]
        if not count:
            own = min(entry["cpu"] for entry in found)
            line += [report.number(1e6 * own), report.number(cpu / own)]
        rows.append(line + ["-"] * (5 - len(line)))
    header = ["", "atoms/s", "of training's", "CPU us/atom", "training over it"]
    device = "GPU" if torch.cuda.is_available() else "one CPU thread"
    title = f"Loader and training of {args.preset} ({device}), {args.atoms} atoms a batch, cache {args.cache:g} MB"
    return {"training": eaten, "loader": delivered}, [(title, header, rows)]


def appetite(data: Any, preset: str) -> Callable[[], int]:
    """Return a function that takes one training step on a batch of the data and returns its atoms."""
    import itertools

    import torch
    from ase.data import chemical_symbols
    from training_throughput import training_step

    from lam.model.heads import HeadInfo
    from lam.model.potential import Potential
    from lam.model.presets import preset as settings
    from lam.train.memory import keep_freed_memory

    keep_freed_memory()  # as lam.train does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    elements = dict.fromkeys(chemical_symbols[1:], 1)
    heads = [HeadInfo(name=name, elements=elements, periodic=True, molecular=True) for name in data.train.names]
    model = Potential(settings(preset), heads).to(device)
    batches = [{k: v.to(device) for k, v in batch.items()} for batch in itertools.islice(batches_of(data, 0), 6)]
    turns = itertools.cycle([(training_step(model, batch), atoms_in(batch)) for batch in batches])

    def step() -> int:
        take, atoms = next(turns)
        take()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return atoms

    for _ in batches:
        step()
    return step


def batches_of(data: Any, workers: int) -> Iterator[dict[str, Any]]:
    """Return the batches of a training as its loader delivers them."""
    data.batch = data.batch.model_copy(update={"workers": workers})
    data.trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    return iter(data.train_dataloader())


def atoms_in(batch: dict[str, Any]) -> int:
    """Return the atoms of a batch."""
    return len(batch["atomic_numbers"])


def rate_of(take: Callable[[], int], seconds: float) -> dict[str, float]:
    """Return atoms per second, and seconds of processor time of this process for each, of what ``take`` handles."""
    cpu, start, atoms = time.process_time(), time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or not atoms:
        atoms += take()
    return {"rate": atoms / passed if passed else 0.0, "cpu": (time.process_time() - cpu) / atoms}


# -- cost --------------------------------------------------------------------------------------


def cost(args: argparse.Namespace) -> tuple[dict[str, Any], Sections]:
    """Fit the time of a training step against its atoms and edges, for each preset."""
    import torch

    torch.set_num_threads(1)
    if not torch.cuda.is_available() and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    actions: dict[tuple[str, int, int], Callable[[], None]] = {}
    for preset in args.presets:
        for number, (action, atoms, edges) in enumerate(steps_of_densities(preset, args.sizes)):
            report.progress(f"{preset} {number}: {atoms} atoms, {edges} edges")
            action()
            action()
            actions[preset, atoms, edges] = action
    turns = {key: (lambda action=action: timed(action)) for key, action in actions.items()}
    timings = take_turns(turns, args.rounds, 0.0, report.progress)
    results: dict[str, Any] = {"fits": {}, "steps": []}
    table = []
    for preset in args.presets:
        own = [(key[1], key[2], least(timing)) for key, timing in timings.items() if key[0] == preset]
        fit = fitted(own)
        results["fits"][preset] = fit
        results["steps"] += [{"preset": preset, "atoms": a, "edges": e, "seconds": t} for a, e, t in own]
        values = (1e3 * fit["step"], 1e6 * fit["atom"], 1e6 * fit["edge"], fit["ratio"])
        table.append([preset, *(report.number(v) for v in values), f"{100 * fit['error']:.0f} %"])
    header = ["", "ms/step", "us/atom", "us/edge", "atom over edge", "largest error"]
    title = f"Time (on a CPU: processor time) of a training step, minima of {args.rounds} rounds"
    return results, [(title, header, table)]


# -- command -----------------------------------------------------------------------------------


def data_module(manifest: Path, preset: str) -> Any:
    """Return the data of a pretraining with the default mixture."""
    from lam.data.dataset import MultiTaskDataset
    from lam.data.manifest import load_manifest
    from lam.model.presets import preset as settings
    from lam.train.config import BatchSection
    from lam.train.data import DataModule

    train = MultiTaskDataset(load_manifest(manifest), "train", settings(preset).cutoff)
    return DataModule(train, None, batch=BatchSection(), steps=1, seed=0, validation_structures=1)


PARTS: dict[str, Callable[[argparse.Namespace], tuple[dict[str, Any], Sections]]] = {
    "imbalance": imbalance,
    "scaling": scaling,
    "loader": loader,
    "cost": cost,
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS), help="what to measure")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    parser.add_argument("--manifest", type=Path, default=Path("data/shared/manifest.yaml"), help="data sets")
    parser.add_argument("--preset", default="nano", help="of scaling and loader (default: nano)")
    parser.add_argument("--presets", nargs="+", default=["nano", "small", "base"], help="of cost")
    parser.add_argument("--atoms", type=int, default=320, help="atoms a process (default: 320)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which measurements take turns (default: 3)")
    parser.add_argument("--steps", type=int, default=100, help="training steps of scaling (default: 100)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="of scaling (default: 1 2)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the loader; scaling: the last")
    parser.add_argument("--cache", type=float, default=0.0, help="MB for graphs kept in memory by the loader (0)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a measurement of the loader (default: 4)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024], help="atoms of cost (default: 256 1024)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8, 64], help="of imbalance")
    parser.add_argument("--budgets", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="atoms of a rank")
    parser.add_argument(
        "--dealt-by", type=float, metavar="X", help="cost of an atom in dealing out (default: ATOM_COST)"
    )
    parser.add_argument("--judged-by", type=float, metavar="X", help="cost of an atom in judging (default: the same)")
    parser.add_argument("--batches", type=int, default=200, help="steps of imbalance (default: 200)")
    return parser


def main() -> None:
    """Measure, print and write."""
    args = build_parser().parse_args()
    machine = report.machine()
    results, sections = PARTS[args.part](args)
    report.save(args.out, f"training_{args.part}", {"machine": machine, **results}, sections)


if __name__ == "__main__":
    main()
