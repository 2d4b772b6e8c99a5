"""A plan for a pretraining on 1e8 structures (2e9 atoms): GPU-hours, network, storage, and where it saturates.

This is a model, not a measurement. It counts operations and traffic from the architecture (harness/counts.py), assumes
what fraction of a GPU's peaks is reached, and adds what a step waits for:

    step = work x imbalance + gradients + messages,   or what the loader takes, if that is longer

    work      = atoms of a GPU / rate;  rate = fraction / max(FLOP per atom / peak, bytes per atom / bandwidth);
                at least operators x the time to launch one
    gradients = 2 (N - 1) / N x parameters x 4 bytes / network bandwidth of a GPU     (ring, after the backward pass)
    messages  = 3 sums over processes x 2 log2(N) x latency
    loader    = atoms of a GPU / (workers x atoms per second of a worker)

    python benchmarks/scaling_plan.py
    python benchmarks/scaling_plan.py --gpu a100 --fraction 0.1 --workers 32 --atoms 16384
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import counts, report

GPUS = {"a100": (19.5e12, 2.04e12), "h100": (67e12, 3.35e12)}
"""FLOP/s of single precision outside of tensor cores, bytes/s: the makers' figures for A100-80GB and H100 (SXM)."""
SUMS = 3
"""Sums over processes in a step: counts of labels, gradients, losses (lam/train/module.py)."""
_FREE = {
    "view", "_unsafe_view", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "slice", "select", "detach",
    "alias", "as_strided", "_reshape_alias", "split", "split_with_sizes", "unbind", "diagonal", "empty", "empty_like",
    "empty_strided", "lift_fresh", "_local_scalar_dense",
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What a step runs on; rates are those of one GPU."""

    flop_rate: float
    byte_rate: float
    fraction: float
    """Reached of the peaks."""
    network: float
    """Bytes per second between GPUs of different nodes."""
    latency: float
    """Seconds of a message."""
    loader: float
    """Atoms per second that the workers of a GPU deliver."""
    launch: float = 0.0
    """Seconds to launch an operator."""


@dataclass(frozen=True)
class Load:
    """What a step does."""

    flop: float
    """Per atom."""
    traffic: float
    """Bytes per atom."""
    parameters: int
    atoms: float
    """Of a GPU and step."""
    imbalance: float = 1.0
    """Work of the busiest GPU over the mean."""
    operators: int = 0
    """Launched in a step."""


def rate(machine: Machine, load: Load) -> float:
    """Return atoms per second of one GPU by itself, the loader aside."""
    return machine.fraction / max(load.flop / machine.flop_rate, load.traffic / machine.byte_rate)


def network_bytes(parameters: int, gpus: int) -> float:
    """Return the bytes that each GPU sends (and receives) in a step for the gradients: a ring."""
    return 2.0 * (gpus - 1) / gpus * 4.0 * parameters


def step_seconds(machine: Machine, load: Load, gpus: int) -> dict[str, float]:
    """Return the parts of a step, and under ``step`` its time."""
    work = load.atoms / rate(machine, load)
    uneven = work * (load.imbalance - 1.0) if gpus > 1 else 0.0
    idle = max(0.0, load.operators * machine.launch - work)
    gradients = network_bytes(load.parameters, gpus) / machine.network
    messages = SUMS * 2.0 * math.log2(gpus) * machine.latency
    loader = load.atoms / machine.loader
    busy = work + idle + uneven + gradients + messages
    return {
        "work": work, "idle": idle, "uneven": uneven, "gradients": gradients, "messages": messages, "loader": loader,
        "step": max(busy, loader),
    }  # fmt: skip


def efficiency(machine: Machine, load: Load, gpus: int) -> float:
    """Return the part of a step that is work."""
    parts = step_seconds(machine, load, gpus)
    return parts["work"] / parts["step"]


def operators_of(preset: str) -> int:
    """Return how many operators a training step of a preset runs, views and allocations aside, counted on a CPU."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from training_throughput import HEAD, make_batch, training_step

    from lam.model.potential import Potential
    from lam.model.presets import preset as settings

    class Count(TorchDispatchMode):
        """Counts what is called."""

        found = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.found += func.__name__.partition(".")[0] not in _FREE
            return func(*args, **(kwargs or {}))

    model = Potential(settings(preset), [HEAD])
    step = training_step(model, make_batch(64, model.cutoff, torch.device("cpu")))
    step()
    with Count() as count:
        step()
    return count.found


def load_of(preset: str, neighbors: float, atoms: float, imbalance: float = 1.0, operators: int = 0) -> Load:
    """Return what a training step of a preset needs, counted from its architecture."""
    from lam.model.heads import HeadInfo
    from lam.model.potential import Potential
    from lam.model.presets import preset as settings

    config = settings(preset)
    work = counts.total(config, neighbors).training
    model = Potential(config, [HeadInfo(name="one", elements={"Cu": 1}, periodic=True)])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Load(work.flop, work.bytes, parameters, atoms, imbalance, operators)


def sections_of(args: argparse.Namespace) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the tables."""
    machine = machine_of(args)
    loads = {
        preset: load_of(preset, args.neighbors, args.atoms, operators=operators_of(preset)) for preset in args.presets
    }
    rows = []
    for preset, load in loads.items():
        alone = rate(machine, load)
        fed = min(alone, machine.loader)
        rows.append(
            [
                preset,
                f"{load.flop / 1e6:.1f}",
                f"{load.traffic / 1e3:,.0f}",
                f"{load.parameters:,}",
                str(load.operators),
            ]
            + [report.number(alone), report.number(alone / args.worker_rate)]
            + [report.number(args.total_atoms / each / 3600) for each in (alone, fed)]
        )
    header = ["", "MFLOP/atom", "kB/atom", "parameters", "operators", "atoms/s of a GPU", "workers to feed it"]
    header += ["GPU-hours a pass", f"... with {args.workers} workers"]
    title = f"{args.gpu.upper()} at {100 * args.fraction:g} % of its peaks (assumed)"
    tables = [(title, header, rows)]
    rows = []
    for preset, load in loads.items():
        structures = min(rate(machine, load), machine.loader) * args.total_structures / args.total_atoms
        rows.append([preset, f"{4e-6 * load.parameters:.2f}", f"{1e-6 * network_bytes(load.parameters, 512):.2f}"])
        rows[-1] += [report.number(structures), report.number(1e-6 * structures * args.shard_bytes)]
        rows[-1] += [report.number(1e-6 * structures * args.cold_bytes)]
    header = ["", "gradients, MB", "sent by each of 512, MB", "structures/s of a GPU", "MB/s, in order", "MB/s, cold"]
    tables.append(("Network for each step, storage for each GPU", header, rows))
    for title, feed in (("the loader keeps up", math.inf), (f"{args.workers} workers", machine.loader)):
        fed = replace(machine, loader=feed)
        rows = []
        for preset in args.presets:
            for atoms in args.budgets:
                load = replace(loads[preset], atoms=atoms)
                values = [f"{100 * efficiency(fed, load, gpus):.0f} %" for gpus in args.gpus]
                rows.append([f"{preset}, {atoms:,} atoms a GPU", *values, f"{atoms * args.gpus[-1]:,}"])
        header = ["", *(f"{gpus} GPUs" for gpus in args.gpus), f"atoms a step, {args.gpus[-1]} GPUs"]
        tables.append((f"Efficiency, {title}, even work", header, rows))
    return tables


def machine_of(args: argparse.Namespace) -> Machine:
    """Return the machine that the words of the command describe."""
    flop_rate, byte_rate = GPUS[args.gpu]
    loader = args.workers * args.worker_rate
    launch = 1e-6 * args.launch
    return Machine(flop_rate, byte_rate, args.fraction, 1e9 * args.network, 1e-6 * args.latency, loader, launch)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    parser.add_argument("--presets", nargs="+", default=["nano", "small", "base"], help="presets")
    parser.add_argument("--gpu", choices=list(GPUS), default="a100", help="whose peaks (default: a100)")
    parser.add_argument("--fraction", type=float, default=0.1, help="reached of the peaks, assumed (default: 0.1)")
    parser.add_argument("--neighbors", type=float, default=50.0, help="of an atom (default: 50)")
    parser.add_argument("--network", type=float, default=12.5, help="GB/s of a GPU between nodes (default: 12.5)")
    parser.add_argument("--latency", type=float, default=20.0, help="of a message, microseconds (default: 20)")
    parser.add_argument("--launch", type=float, default=8.0, help="of an operator, microseconds (default: 8)")
    parser.add_argument("--workers", type=int, default=8, help="data-loader workers of a GPU (default: 8)")
    parser.add_argument("--worker-rate", type=float, default=11_400.0, help="atoms/s of a worker (docs/data.md)")
    parser.add_argument("--atoms", type=int, default=4096, help="atoms of a GPU and step (default: 4096)")
    parser.add_argument("--budgets", type=int, nargs="+", default=[512, 4096, 16384], help="of the last tables")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512], help="numbers of GPUs")
    parser.add_argument("--total-structures", type=float, default=1e8, help="structures of the data (default: 1e8)")
    parser.add_argument("--total-atoms", type=float, default=2e9, help="atoms of the data (default: 2e9)")
    parser.add_argument("--shard-bytes", type=float, default=1262.0, help="of a structure in a shard (docs/data.md)")
    parser.add_argument("--cold-bytes", type=float, default=1e5, help="read for one at random (docs/data.md)")
    return parser


def main() -> None:
    """Calculate, print and write."""
    args = build_parser().parse_args()
    settings: dict[str, Any] = {key: value for key, value in vars(args).items() if key != "out"}
    report.save(args.out, "scaling_plan", {"settings": settings}, sections_of(args))


if __name__ == "__main__":
    main()
