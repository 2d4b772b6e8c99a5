"""Speed of data: conversion to shards, and random reading of a data set larger than memory beside training's appetite.

Makes structures of about 20 atoms (half crystals, half molecules) as an ASE LMDB file, and molecules of 20 atoms as an
HDF5 file like ANI-1x; converts them with several numbers of processes, and prints structures per second by the clock,
memory and bytes per structure. Then copies the shards until
they fill the size asked for, and reads batches at random: structures alone, and graphs by data-loader workers, as in
training. Before each measurement of reading, the shards are dropped from the page cache where the system allows it.
Processor time for each structure is printed, too: unlike rates it does not suffer from other work on the
machine. Last, what a training step of a preset takes in on this machine. A data set larger than the
machine's memory (--gib) shows what comes from the disk when nothing can stay cached.

    python benchmarks/data_throughput.py
    python benchmarks/data_throughput.py --structures 100000 --gib 30 --workers 1 2 --folder /big/disk
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).resolve().parent
PROJECT = BENCHMARKS.parent
sys.path[:0] = [str(BENCHMARKS), str(PROJECT)]

from harness import report  # noqa: E402

CONFORMATIONS = 200
CUTOFF = 5.0
"""Angstrom, of the graphs that are read."""


def make_rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield rows of ASE's database: crystals of 16 to 24 atoms at 12 Angstrom^3 for each, and molecules."""
    random = np.random.default_rng(0)
    for number in range(count):
        atoms = int(random.integers(16, 25))
        periodic = number % 2 == 0
        edge = (12.0 * atoms) ** (1 / 3)
        # A jittered grid: random, without atoms on top of each other.
        grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)[random.permutation(27)[:atoms]]
        positions = (grid + random.normal(scale=0.08, size=(atoms, 3))) * (edge / 3)
        kinds = random.choice(87, 4, replace=False) + 3 if periodic else np.array([1, 6, 7, 8])
        yield {
            "numbers": np.sort(random.choice(kinds, atoms)).tolist(),
            "positions": positions.tolist(),
            "cell": (np.eye(3) * edge * periodic).tolist(),
            "pbc": [periodic] * 3,
            "unique_id": f"{number:032x}",
            "ctime": 24.8,
            "mtime": 24.8,
            "user": "benchmark",
            "calculator": "unknown",
            "calculator_parameters": {},
            "energy": -5.0 * atoms + random.normal(),
            "forces": random.normal(size=(atoms, 3)).tolist(),
            **({"stress": (0.01 * random.normal(size=6)).tolist()} if periodic else {}),
            "data": {"charge": 0, "spin": 1, "sid": number // 50},
        }


def write_source(path: Path, count: int) -> None:
    """Write an ASE LMDB file."""
    import lmdb

    with (
        lmdb.open(str(path), subdir=False, map_size=2**40, meminit=False, sync=False) as env,
        env.begin(write=True) as transaction,
    ):
        for number, row in enumerate(make_rows(count), start=1):
            transaction.put(str(number).encode("ascii"), zlib.compress(json.dumps(row).encode()))
        transaction.put(b"nextid", zlib.compress(str(count + 1).encode()))


def write_hdf5(path: Path, count: int) -> None:
    """Write an HDF5 file like ANI-1x: a group for each formula, here of 200 conformations of 20 atoms."""
    import h5py

    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * 2.1
    with h5py.File(path, "w") as file:
        for number in range(-(-count // CONFORMATIONS)):
            size = min(CONFORMATIONS, count - number * CONFORMATIONS)
            places = grid[random.permutation(27)[:20]] + random.normal(scale=0.1, size=(size, 20, 3))
            group = file.create_group(f"molecule-{number:06d}")
            group["atomic_numbers"] = np.sort(random.choice([1, 6, 7, 8], 20)).astype(np.uint8)
            group["coordinates"] = places.astype(np.float32)
            group["wb97x_dz.energy"] = -20.0 + 0.1 * random.normal(size=size)
            group["wb97x_dz.forces"] = (0.05 * random.normal(size=places.shape)).astype(np.float32)


SOURCES = {"aselmdb": ("ASE LMDB", ".aselmdb", write_source), "ani1x": ("HDF5, as ANI-1x", ".h5", write_hdf5)}


def converted(source: Path, out: Path, jobs: int, recipe: str = "aselmdb") -> dict[str, Any]:
    """Convert in this process, and return what it took. Meant for a fresh process, whose memory tells something."""
    import resource

    from lam.data.convert import convert

    start = time.perf_counter()
    cpu = cpu_seconds()
    first: list[tuple[float, int]] = []

    def watch(state: Any) -> None:
        if state.structures:
            first.append((time.perf_counter(), state.structures))

    (result,) = convert([source], out, recipe=recipe, jobs=jobs, force=True, progress=watch)
    seconds = time.perf_counter() - start
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    files = [result.path] if result.path.is_file() else sorted(result.path.glob("part-*.h5"))
    # From the first sign of progress to the last: starting Python and compiling are paid once, not per structure.
    steady = (first[-1][1] - first[0][1]) / (first[-1][0] - first[0][0]) if len(first) > 1 else None
    return {
        "source": SOURCES[recipe][0],
        "jobs": jobs,
        "structures": result.structures,
        "seconds": seconds,
        "rate": result.structures / seconds,
        "cpu_us": 1e6 * (cpu_seconds() - cpu) / result.structures,
        "steady_rate": steady,
        "peak_bytes": 1024 * max(own, children),
        "shard_bytes": sum(file.stat().st_size for file in files) / result.structures,
        "source_bytes": source.stat().st_size / result.structures,
        "shards": len(files),
    }


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def tile(shards: Path, out: Path, gib: float) -> int:
    """Copy a shard, or those of a folder, until they fill ``gib``; return the number of bytes."""
    out.mkdir(parents=True)
    files = sorted(shards.glob("part-*.h5")) if shards.is_dir() else [shards]
    size = number = 0
    while size < gib * 2**30:
        file = files[number % len(files)]
        shutil.copyfile(file, out / f"part-{number:05d}.h5")
        size, number = size + file.stat().st_size, number + 1
    return size


def read(folder: Path, seconds: float, workers: list[int]) -> dict[str, Any]:
    """Read at random, and return samples per second; the first opening, which makes the index, is timed apart."""
    from torch.utils.data import DataLoader

    from lam.data.dataset import MultiTaskDataset, one_thread
    from lam.data.graph import collate
    from lam.data.manifest import DatasetSpec, Manifest
    from lam.data.sampler import BudgetBatchSampler
    from lam.data.shards import open_shard

    cpu = time.process_time()
    shards = open_shard(folder)
    index_us = 1e6 * (time.process_time() - cpu) / len(shards)
    del shards
    before = resident()
    start = time.perf_counter()
    manifest = Manifest(datasets=[DatasetSpec(name="tiled", path=folder)])
    dataset = MultiTaskDataset(manifest, "train", cutoff=CUTOFF)
    open_seconds = time.perf_counter() - start
    found = {"structures": int(sum(map(len, dataset.shards))), "index_cpu_us": index_us, "open_seconds": open_seconds}
    found["memory_bytes"] = (resident() - before) / found["structures"]
    for row in np.linspace(0, found["structures"] - 1, 2 * len(dataset.shards[0].files)):
        dataset.shards[0][int(row)]  # opens every shard, which is paid once
    evict(folder)
    items = np.random.default_rng(0).integers(len(dataset), size=200_000)
    found["structures_per_second"], found["structure_cpu_us"] = _rate(
        (dataset.structure(int(item)) for item in items), seconds
    )
    found["graphs_per_second"] = {}
    for count in workers:
        evict(folder)
        sampler = BudgetBatchSampler(dataset, 1280, total_steps=10**6, seed=count)
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=count,
            collate_fn=collate,
            worker_init_fn=one_thread,
            prefetch_factor=4 if count else None,
        )
        batches = (len(batch["n_atoms"]) for batch in loader)
        _rate(batches, seconds / 2)  # workers start, and open the shards
        found["graphs_per_second"][str(count)], used = _rate(batches, seconds)
        if not count:
            found["graph_cpu_us"] = used
        del batches, loader
    return found


def evict(folder: Path) -> None:
    """Drop the shards from the page cache, so that they are read from the disk again."""
    if hasattr(os, "posix_fadvise"):
        for path in folder.glob("part-*.h5"):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _rate(things: Iterator[Any], seconds: float) -> tuple[float, float]:
    """Take things for so many seconds; return how many a second, and processor time for each in microseconds.

    A number among the things is a count of things.
    """
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    for thing in things:
        count += thing if isinstance(thing, int) else 1
        if time.perf_counter() - start > seconds:
            break
    return count / (time.perf_counter() - start), 1e6 * (time.process_time() - cpu) / count


def resident() -> int:
    """Return the resident size of this process, bytes."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


def appetite(shard: Path, preset: str, seconds: float) -> dict[str, float]:
    """Return how many structures and atoms a second one training step of a preset takes in, here."""
    import torch
    from training_throughput import HEAD, training_step

    from lam.data.graph import build_graph, collate
    from lam.data.shards import open_shard
    from lam.model.heads import HeadInfo
    from lam.model.potential import Potential
    from lam.model.presets import preset as settings

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shards = open_shard(shard)
    structures = [shards[row] for row in range(64)]
    symbols = dict.fromkeys((symbol for structure in structures for symbol in structure.to_atoms().symbols), 1)
    head = HeadInfo(name=HEAD.name, elements=symbols, periodic=True)
    model = Potential(settings(preset), [head]).to(device)
    graphs = [build_graph(structure, cutoff=model.cutoff) for structure in structures]
    batch = {key: value.to(device) for key, value in collate(graphs).items()}
    step = training_step(model, batch)
    step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or steps < 3:
        step()
        steps += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
    passed = time.perf_counter() - start
    return {
        "device": device.type,
        "structures_per_second": steps * len(structures) / passed,
        "atoms_per_second": steps * sum(map(len, structures)) / passed,
    }


def in_fresh_process(function: str, *arguments: Any) -> dict[str, Any]:
    """Call a function of this module in a new process."""
    done = subprocess.run(
        [
            sys.executable,
            str(BENCHMARKS / "data_throughput.py"),
            "--call",
            function,
            json.dumps(arguments, default=str),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    if done.returncode:
        raise SystemExit(f"{function} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


_CALLS = {
    "converted": lambda source, out, jobs, recipe: converted(Path(source), Path(out), jobs, recipe),
    "read": lambda folder, seconds, workers: read(Path(folder), seconds, workers),
    "appetite": lambda shard, preset, seconds: appetite(Path(shard), preset, seconds),
}


def sections_of(results: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the tables."""
    conversions = [
        [
            f"{row['source']}, {row['jobs']} process{'es' if row['jobs'] > 1 else ''}",
            f"{row['structures']:,}",
            report.number(row["rate"]),
            report.number(row["steady_rate"]),
            report.number(row["cpu_us"]),
            report.number(row["peak_bytes"] / 2**20),
            report.number(row["source_bytes"]),
            report.number(row["shard_bytes"]),
        ]
        for row in results["conversions"]
    ]
    reading = results["reading"]
    eaten = results["appetite"]["structures_per_second"]
    rates = [("structures, one process", reading["structures_per_second"])]
    rates += [
        (f"graphs, {count} workers" if count != "0" else "graphs, in the training process", rate)
        for count, rate in reading["graphs_per_second"].items()
    ]
    rows = [[name, report.number(rate), report.number(rate / eaten)] for name, rate in rates]
    rows.append([f"training of {results['preset']}, {results['appetite']['device']}", report.number(eaten), "1"])
    header = [
        "conversion",
        "structures",
        "structures/s",
        "... once started",
        "CPU us each",
        "peak, MiB",
        "B/structure in",
        "out",
    ]
    tiled = f"Reading at random from {results['tiled_bytes'] / 2**30:.1f} GiB, {reading['structures']:,} structures"
    tiled += f" (memory of the machine: {results['machine_memory'] / 2**30:.1f} GiB)"
    start = [
        ["processor time of the index (made once) for each structure, us", report.number(reading["index_cpu_us"])],
        ["opening the data set, seconds", report.number(reading["open_seconds"])],
        ["memory of the open data set for each structure, bytes", report.number(reading["memory_bytes"])],
    ]
    start.append(["processor time of a structure, us", report.number(reading["structure_cpu_us"])])
    if "graph_cpu_us" in reading:
        start.append(["processor time of a structure with its graph, us", report.number(reading["graph_cpu_us"])])
    return [
        ("Conversion", header, conversions),
        (tiled, ["", "samples/s", "of training's appetite"], rows),
        ("Start, processor time and memory", ["", "measured"], start),
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw the rates of conversion, and of reading beside training."""
    from lam.plot_style import BLUE, INK, ORANGE

    left, right = report.new_axes(8.0, 3.4, columns=2)
    most = max(row["structures"] for row in results["conversions"])
    rows = [row for row in results["conversions"] if row["structures"] == most]
    labels = [f"{row['source'].split(',')[0]}\n{row['jobs']}" for row in rows]
    left.bar(labels, [row["rate"] for row in rows], color=BLUE)
    left.axhline(5000, color=INK, linewidth=1, linestyle="--")
    left.set_xlabel("source, processes")
    left.set_ylabel("structures converted per second")
    rates = results["reading"]["graphs_per_second"]
    right.bar(list(rates), list(rates.values()), color=BLUE)
    right.axhline(results["appetite"]["structures_per_second"], color=ORANGE, linewidth=1)
    right.text(0.02, 0.02, f"line: training of {results['preset']}", transform=right.transAxes, fontsize=8)
    right.set_xlabel("data-loader workers")
    right.set_ylabel("graphs per second, read at random")
    report.save_plot(left, path)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    parser.add_argument("--name", default="data_throughput", help="name of the files there")
    parser.add_argument("--folder", type=Path, help="where the data is made (default: a temporary folder)")
    parser.add_argument("--structures", type=int, default=40_000, help="structures that are converted (default: 40000)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="processes of a conversion (default: 1 2)")
    parser.add_argument("--gib", type=float, default=1.0, help="size of the tiled data set (default: 1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="data-loader workers")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement of reading (default: 8)")
    parser.add_argument("--preset", default="nano", help="whose training sets the appetite (default: nano)")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, print and write."""
    args = build_parser().parse_args()
    if args.call:
        print(json.dumps(_CALLS[args.call[0]](*json.loads(args.call[1]))))
        return
    results: dict[str, Any] = {"machine": report.machine(), "preset": args.preset, "conversions": []}
    results["machine_memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="lam-data-") as name:
        folder = Path(name)
        report.progress(f"making {args.structures} structures")
        runs: list[tuple[Path, int, str]] = []
        for recipe, (_, suffix, write) in reversed(SOURCES.items()):
            made = {count: folder / f"{recipe}-{count}{suffix}" for count in (args.structures // 4, args.structures)}
            for count, file in made.items():
                write(file, count)
            source = made[args.structures]
            if recipe == "aselmdb":  # a small one, too: memory must not grow with the source
                runs.append((made[args.structures // 4], 1, recipe))
            runs += [(source, jobs, recipe) for jobs in args.jobs]
        in_fresh_process("converted", runs[-1][0], folder / "warm", 1, "aselmdb")  # compiles
        for number, (file, jobs, recipe) in enumerate(runs):
            report.progress(f"converting {file.name} with {jobs} processes")
            results["conversions"].append(in_fresh_process("converted", file, folder / str(number), jobs, recipe))
        shards = folder / str(len(runs) - 1) / source.stem
        shards = shards if shards.is_dir() else shards.with_suffix(".h5")
        report.progress(f"copying shards to {args.gib} GiB")
        results["tiled_bytes"] = tile(shards, folder / "tiled", args.gib)
        report.progress("reading")
        results["reading"] = in_fresh_process("read", folder / "tiled", args.seconds, args.workers)
        report.progress(f"training {args.preset}")
        results["appetite"] = in_fresh_process("appetite", shards, args.preset, args.seconds)
    report.save(args.out, args.name, results, sections_of(results))
    plot(results, args.out / f"{args.name}.png")


if __name__ == "__main__":
    main()
