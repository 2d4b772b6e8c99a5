"""Training on energies, forces and stresses: lam beside MACE and NequIP, in one run.

Prints the atoms that a step digests per second of processor time (all threads) and of wall time. A step is forward,
forces and stress, mean squared errors, the gradient by the weights, and Adam, in float32, on cells of 32 displaced
copper atoms whose neighbours are found beforehand. Each code has an environment and a process of its own for each
number of threads, and is given the best of its batch sizes; they take turns. MACE and NequIP as in peers.py; NequIP is
compiled (``compile_mode: compile`` of its training configuration).

    python benchmarks/peers_training.py --setup ~/peers
    python benchmarks/peers_training.py --mace-python A/bin/python --nequip-python B/bin/python --threads 1
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from harness import environments, report
from harness.turns import WorkerError, start_workers, take_turns

NAMES = {"mace": "MACE", "nequip": "NequIP-S"}


def contestants(args: argparse.Namespace) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (name, code, arguments of its training step) for every batch size of every model."""
    found = []
    for size in args.mace_batch:
        found.append((NAMES["mace"], "mace", {"structures": size, "cutoff": args.cutoff}))
    for size in args.nequip_batch:
        found.append((NAMES["nequip"], "nequip", {"structures": size, "cutoff": args.cutoff, "how": args.nequip_how}))
    for preset in args.presets:
        for size in args.lam_batch:
            found.append((f"lam {preset}", "lam", {"model": preset, "structures": size, "cutoff": args.cutoff}))
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load everything, take turns, return all numbers."""
    pythons = environments.interpreters(args)
    machine = report.machine()
    wanted = contestants(args)
    codes = list(dict.fromkeys(code for _, code, _ in wanted))
    facts, calls, about = {}, {}, {}
    with ExitStack() as stack:
        for threads in args.threads:
            workers = start_workers(codes, pythons, threads, args.out / "logs")
            for worker in workers.values():
                stack.enter_context(worker)
            about = {code: worker.about for code, worker in workers.items()}
            for name, code, options in wanted:
                if code not in workers:
                    continue
                key = f"{name} / {options['structures']}"
                report.progress(f"loading {name}, {options['structures']} cells, {threads} threads")
                try:
                    answer = workers[code].ask("load_training", key=key, **options)
                except WorkerError as error:
                    report.progress(f"  left out: {error}")
                    continue
                facts[name, options["structures"], threads] = answer
                calls[name, options["structures"], threads] = partial(workers[code].ask, "step", key=key)
        timings = take_turns(calls, args.rounds, args.turn, report.progress)
    rows = [
        {
            "name": name,
            "structures": size,
            "threads": threads,
            **facts[name, size, threads],
            **timing.as_dict(),
            "atoms_per_cpu_second": facts[name, size, threads]["atoms"] / timing.cpu_seconds,
            "atoms_per_second": facts[name, size, threads]["atoms"] / timing.seconds,
        }
        for (name, size, threads), timing in timings.items()
    ]
    return {"machine": machine, "codes": about, "results": rows}


def best(rows: list[dict[str, Any]], threads: int, quantity: str) -> dict[str, dict[str, Any]]:
    """Return, for each model, its best batch size by a quantity."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["threads"] == threads and row[quantity] > found.get(row["name"], {quantity: 0.0})[quantity]:
            found[row["name"]] = row
    return found


def table(rows: list[dict[str, Any]], threads: int, quantity: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: each model at its best batch size, and how many times the peers' rate that is."""
    chosen = best(rows, threads, quantity)
    peers = [name for name in chosen if not name.startswith("lam")]
    header = ["", "cells per batch", "atoms/s", *(f"times {peer}" for peer in peers)]
    lines = [
        [
            name,
            str(row["structures"]),
            report.number(row[quantity]),
            *(report.number(row[quantity] / chosen[peer][quantity]) for peer in peers),
        ]
        for name, row in chosen.items()
    ]
    return header, lines


def plot(rows: list[dict[str, Any]], threads: list[int], path: Path) -> None:
    """Draw atoms per second of processor time."""
    chosen = {count: best(rows, count, "atoms_per_cpu_second") for count in threads}
    names = list(dict.fromkeys(row["name"] for row in rows))
    series = {
        f"{count} thread{'s' * (count > 1)}": [of.get(name, {}).get("atoms_per_cpu_second") for name in names]
        for count, of in chosen.items()
    }
    report.save_bars(path, names, series, "training: atoms per second of CPU time")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    parser.add_argument("--presets", nargs="+", default=["nano", "small", "base"], help="presets of lam")
    parser.add_argument("--cutoff", type=float, default=6.0, help="cutoff of all models, Angstrom (default: 6)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--turn", type=float, default=0.3, help="least length of a turn, s (default: 0.3)")
    parser.add_argument("--mace-batch", type=int, nargs="+", default=[1, 4], help="cells per batch of MACE")
    parser.add_argument("--nequip-batch", type=int, nargs="+", default=[2, 8], help="cells per batch of NequIP")
    parser.add_argument("--lam-batch", type=int, nargs="+", default=[4, 16], help="cells per batch of lam")
    parser.add_argument("--nequip-how", choices=["compile", "eager"], default="compile", help="how NequIP trains")
    environments.add_options(parser)
    return parser


def main() -> None:
    """Measure, print and write."""
    args = build_parser().parse_args()
    results = run(args)
    sections = []
    for threads in args.threads:
        for quantity, words in (("atoms_per_cpu_second", "processor time"), ("atoms_per_second", "wall time")):
            if threads == 1 and quantity == "atoms_per_second":
                continue  # the same but for what else the machine does
            title = f"Training, {threads} thread{'s' * (threads > 1)}: atoms per second of {words}"
            sections.append((title, *table(results["results"], threads, quantity)))
    report.save(args.out, "peers_training", results, sections)
    plot(results["results"], args.threads, args.out / "peers_training.png")


if __name__ == "__main__":
    main()
