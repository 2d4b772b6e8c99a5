"""Energy, forces and stress through the ASE calculator: lam beside MACE and NequIP, in one run.

Float32 models of random weights (speed does not depend on their values), neighbour list included, on water (192 atoms),
fcc copper (256), rutile (216) and a molecule, n-octane (26, not periodic, so without stress). Each code has an
environment and a process of its own; they take turns, so that whatever else the machine does slows all alike. All
positions change before every call, as in dynamics.

    python benchmarks/peers.py --setup ~/peers                          # makes the environments first (network)
    python benchmarks/peers.py --mace-python A/bin/python --nequip-python B/bin/python
    python benchmarks/peers.py --systems octane --rounds 20             # lam alone

Peers: mace-torch in the shape of MACE-MP-0 small, eager, as its documentation runs it on a CPU; nequip's preset S,
compiled by AOTInductor, as its documentation recommends (needs g++; two minutes, once). Both at 6 Angstrom. lam's
presets at 6 Angstrom and, with --own-cutoffs, at their own.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from harness import environments, report
from harness.structures import SYSTEMS
from harness.turns import Timing, Worker, WorkerError, start_workers, take_turns

PEERS = ("mace", "nequip")


def contestants(args: argparse.Namespace) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return name -> (code, arguments of its calculator)."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for mode in args.mace_how:
        found["MACE" if mode == "eager" else f"MACE, {mode}"] = ("mace", {"cutoff": args.cutoff, "how": mode})
    for mode in args.nequip_how:
        name = "NequIP-S" if mode == "aotinductor" else f"NequIP-S, {mode}"
        found[name] = ("nequip", {"cutoff": args.cutoff, "how": mode})
    for preset in args.presets:
        found[f"lam {preset}"] = ("lam", {"model": preset, "cutoff": args.cutoff})
        if args.own_cutoffs:
            found[f"lam {preset}, own cutoff"] = ("lam", {"model": preset})
        if args.no_skin:
            found[f"lam {preset}, new list each call"] = ("lam", {"model": preset, "cutoff": args.cutoff, "skin": 0.0})
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load everything, take turns, return all numbers."""
    pythons = environments.interpreters(args)
    machine = report.machine()
    with ExitStack() as stack:
        wanted = contestants(args)
        codes = list(dict.fromkeys(code for code, _ in wanted.values()))
        workers = start_workers(codes, pythons, args.threads, args.out / "logs")
        for worker in workers.values():
            stack.enter_context(worker)
        facts, calls = load(args, wanted, workers)
        timings = take_turns(calls, args.rounds, args.turn, report.progress)
        about = {code: worker.about for code, worker in workers.items()}
    return {"machine": machine, "threads": args.threads, "codes": about, "results": collect(facts, timings)}


def load(
    args: argparse.Namespace, wanted: dict[str, tuple[str, dict[str, Any]]], workers: dict[str, Worker]
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[tuple[str, str], partial]]:
    """Attach every contestant to every structure; what fails is reported and left out."""
    facts, calls = {}, {}
    for name, (code, options) in wanted.items():
        if code not in workers:
            continue
        for system in args.systems:
            report.progress(f"loading {name}, {system}")
            key = f"{name} / {system}"
            try:
                facts[name, system] = workers[code].ask("load", key=key, system=system, **options)
            except WorkerError as error:
                report.progress(f"  left out: {error}")
                continue
            calls[name, system] = partial(workers[code].ask, "call", key=key)
    return facts, calls


def collect(facts: dict[tuple[str, str], dict[str, Any]], timings: dict[tuple[str, str], Timing]) -> dict[str, Any]:
    """Return contestant -> system -> facts and times."""
    results: dict[str, Any] = {}
    for (name, system), timing in timings.items():
        results.setdefault(name, {})[system] = {**facts[name, system], **timing.as_dict()}
    return results


def time_rows(results: dict[str, Any], systems: list[str]) -> list[list[str]]:
    """Return the rows of the table of times, ms per call."""
    return [
        [name, *(report.number(1e3 * of[system]["seconds"]) if system in of else "-" for system in systems)]
        for name, of in results.items()
    ]


def ratio_rows(results: dict[str, Any], systems: list[str]) -> list[list[str]]:
    """Return the rows of the table of ratios: how many times faster than each peer."""
    rows = []
    for name, of in results.items():
        for peer in (other for other in results if not other.startswith("lam")):
            if not name.startswith("lam"):
                continue
            ratios = [
                results[peer][system]["seconds"] / of[system]["seconds"]
                if system in of and system in results[peer]
                else None
                for system in systems
            ]
            rows.append([f"{name} : {peer}", *(report.number(ratio) for ratio in ratios)])
    return rows


def plot(results: dict[str, Any], systems: list[str], path: Path) -> None:
    """Draw times per call."""
    series = {
        name: [1e3 * of[system]["seconds"] if system in of else None for system in systems]
        for name, of in results.items()
    }
    report.save_bars(path, systems, series, "ms per energy, forces and stress", width=8.0)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), help="structures")
    parser.add_argument("--presets", nargs="+", default=["nano", "small", "base"], help="presets of lam")
    parser.add_argument("--cutoff", type=float, default=6.0, help="cutoff of all models, Angstrom (default: 6)")
    parser.add_argument("--own-cutoffs", action="store_true", help="time lam's presets at their own cutoffs too")
    parser.add_argument("--no-skin", action="store_true", help="time lam with a new neighbour list at each call too")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant (default: 7)")
    parser.add_argument("--turn", type=float, default=0.3, help="least length of a turn, s (default: 0.3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each code (default: 2)")
    parser.add_argument("--mace-how", nargs="+", choices=["eager", "compile"], default=["eager"], help="how MACE runs")
    parser.add_argument(
        "--nequip-how", nargs="+", choices=["aotinductor", "eager"], default=["aotinductor"], help="how NequIP runs"
    )
    environments.add_options(parser)
    return parser


def main() -> None:
    """Measure, print and write."""
    args = build_parser().parse_args()
    results = run(args)
    times = ["ms per call", *args.systems]
    ratios = ["times faster", *args.systems]
    sections = [("Time per call, ms (median of the turns)", times, time_rows(results["results"], args.systems))]
    rows = ratio_rows(results["results"], args.systems)
    if rows:
        sections.append(("Ratios of the same run", ratios, rows))
    report.save(args.out, "peers", results, sections)
    plot(results["results"], args.systems, args.out / "peers.png")


if __name__ == "__main__":
    main()
