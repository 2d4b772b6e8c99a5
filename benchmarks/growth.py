"""Time and memory per atom as the system grows: water boxes through the ASE calculator.

For each size a fresh process evaluates energy, forces and stress of a box of water (1 g/cm^3, copies of a box of 192
atoms, each atom displaced), in turn with the box of 192 atoms itself, so that the ratio of the times per atom is one of
the same minutes. Memory is the largest resident size of the process over its life, everything included, and what of it
came after the model was loaded and had run once, divided by the number of atoms.

    python benchmarks/growth.py
    python benchmarks/growth.py --presets small --sizes 192 1536 12288 98304
    python benchmarks/growth.py --presets nano --sizes 192 98304 1000000 --repeats 2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from harness import report
from harness.structures import moved, repeated_water
from harness.turns import BENCHMARKS, PROJECT, timed

REFERENCE = 192


def measure(preset: str, n_atoms: int, repeats: int, threads: int, cutoff: float | None) -> dict[str, Any]:
    """Time one size in this process, which should be a fresh one.

    Returns:
        Atoms; seconds per atom, median, of this size and of the reference in turn with it; peak memory, bytes.
    """
    import torch
    from peer_workers.lam_worker import calculator

    torch.set_num_threads(threads)
    small, large = repeated_water(REFERENCE), repeated_water(n_atoms)
    for atoms in (small, large):
        atoms.calc = calculator(preset, cutoff)[0]
    places = {id(atoms): atoms.positions.copy() for atoms in (small, large)}
    steps = {id(small): 0, id(large): 0}

    def call(atoms: Any) -> float:
        steps[id(atoms)] += 1
        atoms.positions = moved(places[id(atoms)], atoms.cell.array, steps[id(atoms)])
        return timed(lambda: (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))["wall"]

    for _ in range(5):
        call(small)
    with PeakMemory() as memory:
        before = memory.now()
        call(large)
        here, there = [], []
        for _ in range(repeats):
            here.append(call(large))
            there += [call(small) for _ in range(10)]
    return {
        "atoms": len(large),
        "seconds_per_atom": statistics.median(here) / len(large),
        "fastest_seconds_per_atom": min(here) / len(large),
        "reference_seconds_per_atom": statistics.median(there) / len(small),
        "fastest_reference_seconds_per_atom": min(there) / len(small),
        "peak_bytes": memory.peak,
        "bytes_per_atom": (memory.peak - before) / len(large),
        "cutoff": large.calc.model.cutoff,
    }


class PeakMemory:
    """Largest resident size of this process, bytes, from entering on: the system's own count, or by looking often."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    @staticmethod
    def now() -> int:
        """Return the resident size, bytes; 0 where the system does not tell."""
        status = Path("/proc/self/statm")
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0

    def _look(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> PeakMemory:
        self._watch.start()
        return self

    def __exit__(self, *exception: object) -> None:
        import resource

        self._done.set()
        self._watch.join()
        unit = 1 if sys.platform == "darwin" else 1024
        self.peak = max(self.peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def in_fresh_process(args: argparse.Namespace, preset: str, size: int) -> dict[str, Any]:
    """Run :func:`measure` in a new process; a failure, such as too little memory, is a result too."""
    options = ["--measure", preset, str(size), "--repeats", str(args.repeats), "--threads", str(args.threads)]
    if args.cutoff is not None:
        options += ["--cutoff", str(args.cutoff)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
    paths = {"PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
    command = [sys.executable, str(BENCHMARKS / "growth.py"), *options]
    started = time.time()
    done = subprocess.run(command, env={**os.environ, **threads, **paths}, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        report.progress(f"  {preset}, {size} atoms failed (status {done.returncode}): {last}")
        return {"preset": preset, "atoms": size, "error": f"status {done.returncode}: {last}"}
    return {"preset": preset, **json.loads(lines[-1]), "process_seconds": time.time() - started}


def rows_of(results: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of the table."""
    rows = []
    for row in results:
        if "error" in row:
            rows.append([row["preset"], f"{row['atoms']:,}", "failed", "-", "-", "-"])
            continue
        rows.append(
            [
                row["preset"],
                f"{row['atoms']:,}",
                report.number(1e6 * row["seconds_per_atom"]),
                report.number(row["seconds_per_atom"] / row["reference_seconds_per_atom"]),
                report.number(row["peak_bytes"] / 2**30),
                report.number(row["bytes_per_atom"] / 1024) if row["atoms"] > REFERENCE else "-",
            ]
        )
    return rows


HEADER = ["preset", "atoms", "us/atom", f"ratio to {REFERENCE} atoms", "peak, GiB", "KiB/atom"]


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the time per atom, in units of that of the smallest box, and the peak memory over the number of atoms."""
    times, memory = report.new_axes(8.0, 3.6, columns=2)
    times.axhspan(0.8, 1.2, color="0.93", zorder=0)
    for preset in dict.fromkeys(row["preset"] for row in results):
        rows = [row for row in results if row["preset"] == preset and "error" not in row]
        sizes = [row["atoms"] for row in rows]
        ratios = [row["seconds_per_atom"] / row["reference_seconds_per_atom"] for row in rows]
        times.plot(sizes, ratios, "o-", label=preset)
        memory.plot(sizes, [row["peak_bytes"] / 2**30 for row in rows], "o-", label=preset)
    times.set_ylabel(f"time per atom, in that at {REFERENCE} atoms")
    memory.set_ylabel("peak memory, GiB")
    times.legend(frameon=False)
    for axes in (times, memory):
        axes.set_xscale("log")
        axes.set_xticks(sorted({row["atoms"] for row in results}))
        axes.tick_params(axis="x", labelsize=7)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("atoms of water")
    report.save_plot(times, path)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    parser.add_argument("--name", default="growth", help="name of the files there (default: growth)")
    parser.add_argument("--presets", nargs="+", default=["nano", "small"], help="presets (default: nano small)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[192, 1536, 12288], help="atoms (default: 192 1536 12288)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each size (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: 2)")
    parser.add_argument("--cutoff", type=float, help="cutoff, Angstrom (default: the preset's)")
    parser.add_argument("--measure", nargs=2, metavar=("PRESET", "ATOMS"), help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, print and write."""
    args = build_parser().parse_args()
    if args.measure:
        preset, size = args.measure
        print(json.dumps(measure(preset, int(size), args.repeats, args.threads, args.cutoff)))
        return
    machine, results = report.machine(), []
    for preset in args.presets:
        for size in args.sizes:
            report.progress(f"{preset}, {size} atoms")
            results.append(in_fresh_process(args, preset, size))
    title = f"Energy, forces and stress of water, {args.threads} threads"
    found = {"machine": machine, "threads": args.threads, "results": results}
    report.save(args.out, args.name, found, [(title, HEADER, rows_of(results))])
    plot(results, args.out / f"{args.name}.png")


if __name__ == "__main__":
    main()
