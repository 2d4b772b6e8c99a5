"""What a selection costs: processor time and memory against the number of structures.

`python benchmarks/selection_scale.py --structures 4000 16000` selects 100 of so many rattled molecules of ASE's G2 set
(6 atoms on average), each in a process of its own. `--choose 10000` measures the choice alone, of 100, once the
features are there: of made-up ones, in trajectories of 200 structures, that vary in 12 directions.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2

from lam.data.shards import ShardWriter
from lam.data.structure import Structure
from lam.select import select
from lam.select.coverage import Coverage
from lam.select.describe import DIRECTIONS, ENVIRONMENTS
from lam.select.farthest import Farthest
from lam.select.greedy import choose
from lam.select.information import Information


def scale(counts: Sequence[int], work: Path) -> None:
    """Print processor time and peak memory of selections of 100, each in a process of its own."""
    random = np.random.default_rng(0)
    names = [name for name in g2.names if len(molecule(name)) > 1]
    for count in counts:
        file = (work / f"scale-{count}.h5").resolve()
        with ShardWriter(file) as writer:
            for number, name in enumerate(random.choice(names, count)):
                atoms = molecule(name)
                atoms.rattle(0.05, rng=random)
                writer.append(Structure.from_atoms(Atoms(atoms.numbers, atoms.positions), source=f"g2#{number}"))
        for by in ("coverage", "diversity", "uncertainty"):
            work_of_child = f"import selection_scale; selection_scale.measure({str(file)!r}, {by!r})"
            subprocess.run([sys.executable, "-c", work_of_child], check=True, cwd=Path(__file__).parent)


def measure(file: str, by: str) -> None:
    """Select 100 structures and print what it took."""
    begin = time.process_time()
    report = select(file, 100, by=by).report
    spent, peak = time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pool = report["pool"]
    print(
        f"{by}: {pool['structures']} structures, {pool['atoms']} atoms, {spent:.1f} s, peak {peak:.0f} MiB", flush=True
    )


def choose_alone(count: int, budget: int) -> None:
    """Print what choosing ``budget`` of ``count`` made-up structures takes, once their features are there."""
    random = np.random.default_rng(0)
    keys = np.arange(count, dtype=np.uint64)
    for by, rows in (("coverage", ENVIRONMENTS), ("diversity", ENVIRONMENTS), ("uncertainty", DIRECTIONS)):
        features = made_up(count * rows, random)
        criterion: Coverage | Farthest | Information
        if by == "uncertainty":
            criterion = Information(features.reshape(count, rows, -1))
        else:
            first = np.arange(0, len(features) + 1, rows)
            elements = np.resize(np.array([1, 1, 1, 6, 6, 6, 7, 8], dtype=np.uint8), len(features))
            drawn = random.permutation(count)
            farthest = by == "diversity"
            criterion = Farthest(first, elements, features) if farthest else Coverage(first, elements, features, drawn)
        begin = time.process_time()
        choose(criterion, keys, budget)
        spent, held = time.process_time() - begin, features.nbytes / count
        print(f"{by}: {budget} of {count} in {spent:.1f} s; features {held:.0f} bytes for each", flush=True)


def made_up(count: int, random: np.random.Generator, *, width: int = 96, directions: int = 12) -> np.ndarray:
    """Return (count, width) float16 in clusters."""
    basis = random.normal(size=(directions, width)).astype(np.float32)
    centres = random.normal(size=(max(1, count // 200), directions))
    found = np.empty((count, width), dtype=np.float16)
    for start in range(0, count, 100_000):
        part = found[start : start + 100_000]
        spread = 0.2 * random.normal(size=(len(part), directions))
        part[:] = (centres[np.arange(start, start + len(part)) // 200 % len(centres)] + spread) @ basis
    return found


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, nargs="+", default=[], metavar="N")
    parser.add_argument("--choose", type=int, metavar="N")
    parser.add_argument("--work", type=Path, default=Path("runs/selection"), metavar="FOLDER")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    scale(args.structures, args.work)
    if args.choose:
        choose_alone(args.choose, 100)


if __name__ == "__main__":
    main()
