"""What the labeller costs beyond the engine: molecules labelled in a plain loop, and by `lam label`.

Both label the same rattled molecules of ASE's G2 set with GFN1-xTB. CPU seconds of all processes are given besides
wall-clock seconds, because they do not depend on what else the machine does.

With `--cells`: by how much GFN1-xTB differs between some cells and the same doubled along one vector (minutes).

Usage: python benchmarks/labelling.py [--count 400] [--jobs 1] | --cells
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.collections import g2
from ase.io import write

from lam.data.structure import Structure
from lam.label.engine_tblite import tblite_calculator
from lam.label.engines import make_engine
from lam.label.periodic import enlarged, widths
from lam.label.run import Settings, label


def molecules(count: int, seed: int = 0) -> list[Atoms]:
    """Return rattled molecules of the G2 set, drawn at random."""
    random = np.random.default_rng(seed)
    frames = []
    for name in random.choice(g2.names, count):
        atoms = molecule(name)
        atoms.rattle(0.05, rng=random)
        atoms.set_initial_magnetic_moments(None)
        frames.append(Atoms(atoms.numbers, atoms.positions))
    return frames


def loop(frames: list[Atoms]) -> None:
    """Label as a script of a few lines would."""
    for atoms in frames:
        atoms.calc = tblite_calculator("GFN1-xTB", electronic_temperature=1500.0, accuracy=0.1)
        atoms.get_potential_energy()
        atoms.get_forces()


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of ``work`` and of the processes that it starts and ends."""

    def cpu() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    begin, begin_cpu = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - begin, cpu() - begin_cpu


def cells() -> dict[str, Atoms]:
    """Return cells of crystals, and of water molecules that are turned at random, by name."""
    random = np.random.default_rng(0)
    water = Atoms(cell=[9.32] * 3, pbc=True)  # 27 molecules at the density of the liquid
    for place in np.ndindex(3, 3, 3):
        one = molecule("H2O")
        one.rotate(random.uniform(0, 360), random.normal(size=3), center="COM")
        one.positions += np.array(place) * 9.32 / 3
        water += one
    return {
        "Ar, fcc": bulk("Ar", "fcc", a=5.31, cubic=True).repeat(2),
        "water": water,
        "NaCl": bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2),
        "MgO": bulk("MgO", "rocksalt", a=4.21, cubic=True).repeat(2),
        "Cu": bulk("Cu", cubic=True).repeat(2),
        "Si": bulk("Si", cubic=True).repeat(2),
    }


def compare_cells() -> None:
    """Print, for each cell, how energy per atom and forces change when it is doubled along its first vector."""
    engine = make_engine("gfn1")
    for name, atoms in cells().items():
        structure = Structure.from_atoms(atoms)
        larger, factor = enlarged(structure, 0)
        one, two = engine.calculate(structure), engine.calculate(larger)
        energy = 1000 * (two.energy / factor - one.energy) / len(atoms)
        force = np.abs(two.forces[: len(atoms)] - one.forces).max()
        width = widths(structure.cell).min()
        print(f"{name}: {len(atoms)} atoms, {width:.1f} A: {energy:.1f} meV/atom, {force:.3f} eV/A", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="molecules (default: 400)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of `lam label` (default: 1)")
    parser.add_argument("--cells", action="store_true", help="compare periodic cells with doubled ones instead")
    args = parser.parse_args()
    if args.cells:
        compare_cells()
        return
    frames = molecules(args.count)
    loop(frames[:5])  # imports and first calls
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "in.extxyz", frames)
        rows = {
            "plain loop": measure(lambda: loop(frames)),
            # One structure tells what starting costs.
            "lam label, one structure": measure(lambda: run(folder, "one.extxyz", args.jobs, frames[:1])),
            f"lam label, {args.jobs} jobs": measure(lambda: run(folder, "all.extxyz", args.jobs, frames)),
        }
    for name, (wall, cpu) in rows.items():
        print(f"{name:26s} {wall:7.2f} s wall {cpu:7.2f} s CPU")
    (_, plain), (_, start), (_, full) = rows.values()
    print(f"plain loop: {args.count / plain:.0f} structures per CPU second")
    print(f"lam label: {(args.count - 1) / (full - start):.0f} structures per CPU second after the start")


def run(folder: str, name: str, jobs: int, frames: list[Atoms]) -> None:
    """Label ``frames`` with the labeller, from a file to a file."""
    source = Path(folder) / f"in-{name}"
    write(source, frames)
    label([source], Path(folder) / name, Settings(engine="gfn1", jobs=jobs))


if __name__ == "__main__":
    main()
