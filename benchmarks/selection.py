"""Learning curves: a model fine-tuned on structures that were chosen by diversity, by uncertainty, and at random.

Four pools, each with test structures that are set aside first:

* `molecules`: organic molecules and ions of many elements from the generators of `lam.corpus`, labelled here with
  GFN2-xTB;
* `dynamics`: trajectories of eight molecules, long ones at 300 K and short ones at 1200 K, of very different lengths,
  calculated here with GFN2-xTB; the test has other trajectories of the same kinds;
* `w-be`: crystals, surfaces, defects and liquids of W and Be (`fitsnap-wbe` of ../shared/data);
* `3bpa`: one molecule at 300 K (`3bpa` of ../shared/data).

`lam-nano` never saw the first two; of the last two it saw most structures in pretraining, with the same labels, but
under a head that is not the one it is fine-tuned from here. Every fine-tune starts from `lam-nano` and takes the same
steps. `means` is farthest point over the mean features of structures, for comparison. Energies are compared after a
refit of one offset for each element to the test, so that the zero of a rare element does not decide.

Results are kept in the work folder: the same command goes on where it stopped.

Usage: nice -n 12 python benchmarks/selection.py [--pools molecules dynamics] [--work runs/selection]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.io import write
from ase.md.langevin import Langevin
from ase.optimize import FIRE

from lam.atomic_write import atomic_file
from lam.calculators import Predictor
from lam.checkpoint import CheckpointMetadata, load
from lam.data.readers import read_structures
from lam.data.structure import Structure
from lam.errors import LamWarning
from lam.plot_style import BLUE, GREY, INK, ORANGE, new_figure
from lam.select import select
from lam.select.farthest import Farthest
from lam.select.features import Featurizer
from lam.select.greedy import choose
from lam.train.finetune import finetune

SHARED = Path("../shared/data")
STEPS = 100
GREEN = "#2e8b57"
BUDGETS = (10, 25, 50, 100, 200)
COLOURS = {"random": GREY, "coverage": GREEN, "diversity": BLUE, "uncertainty": ORANGE, "means": INK}
METRICS = {
    "force": "forces, meV/Å",
    "force_p95": "forces, 95 %, meV/Å",
    "energy": "energies, meV/atom",
    "energy_p95": "energies, 95 %, meV/atom",
}
TRAJECTORIES = {
    "CH3CH2OH": 120, "CH3CONH2": 90, "C5H5N": 60, "CH3CH2Cl": 40, "C4H4S": 30, "CH3COCH3": 20, "CH3NO2": 12,
    "isobutane": 8,
}  # fmt: skip
"""Molecule -> frames at 300 K in the pool; an eighth as many at 1200 K."""


@dataclass(frozen=True)
class Pool:
    """Structures to choose from, and to test on."""

    name: str
    make: Callable[[Path], tuple[list[Atoms], list[Atoms]]]
    """Returns pool and test, labelled."""
    head: str
    """Head that fine-tuning starts from."""
    random: int
    """How many random choices."""
    means: bool = False
    """Also by farthest point over whole structures?"""


# -- pools --------------------------------------------------------------------------------------


def molecules(folder: Path) -> tuple[list[Atoms], list[Atoms]]:
    """Generate and label molecules and ions; a test of 200 is drawn at random."""
    from lam.corpus.coverage import Coverage
    from lam.corpus.plan import build_family, select_families
    from lam.label.run import Settings, label

    coverage, frames = Coverage(), []
    wanted = {"molecules": 900, "ions": 250}
    for family in select_families(False, list(wanted)):
        frames += build_family(family, wanted[family.name], 4711, coverage).frames
    write(folder / "structures.extxyz", frames)
    settings = Settings(engine="gfn2", jobs=1, max_force=30.0)
    label([folder / "structures.extxyz"], folder / "labels.extxyz", settings, overwrite=True)
    return _held_out(list(read_structures(folder / "labels.extxyz")), 200)


def dynamics(_: Path) -> tuple[list[Atoms], list[Atoms]]:
    """Run Langevin dynamics of some molecules."""
    pool, test = [], []
    for number, (name, frames) in enumerate(TRAJECTORIES.items()):
        pool += walk(name, 300.0, frames, 5, 10 + number) + walk(name, 1200.0, max(1, frames // 8), 10, 100 + number)
        test += walk(name, 300.0, max(4, frames // 5), 20, 1000 + number)
        test += walk(name, 1200.0, max(1, frames // 30), 20, 2000 + number)
    return pool, test


def walk(name: str, temperature: float, frames: int, spacing: int, seed: int) -> list[Atoms]:
    """Return labelled frames of a trajectory, ``spacing`` steps of 0.5 fs apart."""
    from lam.label.engine_tblite import tblite_calculator

    random = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.calc = tblite_calculator("GFN2-xTB")
    FIRE(atoms, logfile=None).run(fmax=0.1, steps=60)
    widths = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(widths[:, None] * random.normal(size=(len(atoms), 3)))
    steps = Langevin(
        atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=random
    )
    steps.run(60)
    found = []
    for _ in range(frames):
        steps.run(spacing)
        frame = Atoms(atoms.numbers, atoms.positions)
        group = f"{name}-{temperature:g}K"
        frame.info.update(REF_energy=atoms.get_potential_energy(), group=group, charge=0, spin=1)
        frame.arrays["REF_forces"] = atoms.get_forces()
        found.append(frame)
    return found


def shared(name: str, count: int, test: int, most_atoms: int) -> Callable[[Path], tuple[list[Atoms], list[Atoms]]]:
    """Return what draws pool and test from a file of ../shared/data."""

    def make(_: Path) -> tuple[list[Atoms], list[Atoms]]:
        found = [s for s in read_structures(SHARED / f"{name}.extxyz.xz") if 1 < len(s) <= most_atoms]
        chosen = np.random.default_rng(1).permutation(len(found))[: count + test]
        return _held_out([found[i] for i in chosen], test)

    return make


def _held_out(structures: Sequence[Structure], test: int) -> tuple[list[Atoms], list[Atoms]]:
    order = np.random.default_rng(0).permutation(len(structures))
    atoms = [structures[i].to_atoms(prefix="REF_") for i in order]
    return atoms[test:], atoms[:test]


MOLECULAR = "spice-test-subset-wb97md3"
POOLS = (
    Pool("molecules", molecules, MOLECULAR, 4, means=True),
    Pool("dynamics", dynamics, MOLECULAR, 4, means=True),
    Pool("w-be", shared("fitsnap-wbe", 900, 150, 30), "mattersim-mptrj-random-1k", 3),
    Pool("3bpa", shared("3bpa", 400, 100, 99), MOLECULAR, 3),
)


# -- one point of a curve -----------------------------------------------------------------------


def errors_of(model: Any, head: str, test: Sequence[Structure]) -> dict[str, float]:
    """Return mean and worst errors of a model on labelled structures, meV/A and meV/atom."""
    forces, components, residuals, compositions = [], [], [], []
    for structure, prediction in Predictor(model, head=head, device="cpu").predict_stream(test, batch_atoms=2000):
        difference = np.abs(prediction.forces - structure.forces)
        forces.append(difference.mean())
        components.append(difference.ravel())
        residuals.append((prediction.energy - structure.energy) / len(structure))
        compositions.append(np.bincount(structure.numbers, minlength=119) / len(structure))
    shares, energies = np.array(compositions), np.array(residuals)
    offsets = np.linalg.lstsq(shares, energies, rcond=None)[0]
    energies = np.abs(energies - shares @ offsets)
    return {
        "force": 1000 * float(np.concatenate(components).mean()),
        "force_p95": 1000 * float(np.quantile(forces, 0.95)),
        "force_max": 1000 * float(np.max(forces)),
        "energy": 1000 * float(energies.mean()),
        "energy_p95": 1000 * float(np.quantile(energies, 0.95)),
    }


def point(base: Any, pool: Pool, train: Sequence[Structure], test: Sequence[Structure]) -> dict[str, float]:
    """Fine-tune on ``train`` and return the errors on ``test``, and what it cost."""
    begin = time.process_time()
    folder = Path(tempfile.mkdtemp(prefix="lam-selection-"))
    try:
        write(folder / "train.extxyz", [structure.to_atoms(prefix="REF_") for structure in train])
        out = folder / "model"
        finetune(
            base, folder / "train.extxyz", out=out, method="full", head=pool.head, new_head="new", quiet=True,
            steps=STEPS, hold_out=0.0,
        )  # fmt: skip
        found = errors_of(load(out), "new", test)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    atoms = sum(len(structure) for structure in train)
    return found | {"atoms": atoms, "cpu_seconds": round(time.process_time() - begin, 2)}


def by_means(base: Any, structures: Sequence[Structure], budget: int) -> list[Structure]:
    """Choose by farthest point over the mean features of structures: for comparison, no part of the package."""
    featurizer, count = Featurizer(base), len(structures)
    points = np.stack([featurizer.atoms([structure]).mean(axis=0) for structure in structures])
    criterion = Farthest(np.arange(count + 1), np.ones(count, dtype=np.uint8), points)
    return [structures[row] for row in choose(criterion, np.arange(count), budget)[0]]


def curves(base: Any, pool: Pool, work: Path, results: dict[str, Any]) -> None:
    """Add the points of a pool that are not there yet to ``results``, which is written after each."""
    folder = work / pool.name
    files = [folder / "pool.extxyz", folder / "test.extxyz"]
    if not all(file.is_file() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        for file, frames in zip(files, pool.make(folder), strict=True):
            with atomic_file(file) as temporary:
                write(temporary, frames, format="extxyz")
    test = list(read_structures(files[1]))
    structures = list(read_structures(files[0]))
    size = len(structures)
    budgets = [budget for budget in BUDGETS if budget <= size // 2]
    entry = results.setdefault(pool.name, {"pool": size, "test": len(test), "points": {}})
    names = ["coverage", "diversity", "uncertainty", *(f"random {seed}" for seed in range(pool.random))]
    orders = {}
    for name in names:
        by, _, seed = name.partition(" ")
        model = base if by != "random" else "lam-nano"
        orders[name] = select(files[0], budgets[-1], by=by, seed=int(seed or 0), model=model).structures
    if pool.means:
        orders["means"] = by_means(base, structures, budgets[-1])
    for budget in budgets:
        for name in orders:
            key = f"{name} {budget}"
            if key not in entry["points"]:
                entry["points"][key] = point(base, pool, orders[name][:budget], test)
                _write_json(work / "results.json", results)
                print(pool.name, key, {k: round(v, 1) for k, v in entry["points"][key].items()}, flush=True)


# -- what is shown ------------------------------------------------------------------------------


def series(entry: dict[str, Any], by: str, metric: str) -> tuple[list[int], list[np.ndarray]]:
    """Return budgets and, for each, the values of a metric (several for random)."""
    found: dict[int, list[float]] = {}
    for key, values in entry["points"].items():
        name, budget = key.rsplit(" ", 1)
        if name.partition(" ")[0] == by:
            found.setdefault(int(budget), []).append(values[metric])
    return sorted(found), [np.array(found[budget]) for budget in sorted(found)]


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw all pools: random as mean and range, the others as lines."""
    with new_figure(path, 12.5, 2.7 * len(results)) as figure:
        grid = figure.subplots(len(results), len(METRICS), squeeze=False)
        for row, (name, entry) in zip(grid, results.items(), strict=True):
            for axes, (metric, label) in zip(row, METRICS.items(), strict=True):
                for by, colour in COLOURS.items():
                    budgets, values = series(entry, by, metric)
                    if not budgets:
                        continue
                    mean = [value.mean() for value in values]
                    line = {"ls": ":", "lw": 1.0} if by == "means" else {"ls": "-", "lw": 1.5}
                    axes.plot(budgets, mean, marker="o", ms=3.0, color=colour, label=by, **line)
                    if by == "random":
                        low, high = [v.min() for v in values], [v.max() for v in values]
                        axes.fill_between(budgets, low, high, color=colour, alpha=0.25, lw=0)
                axes.set(xscale="log", yscale="log", xlabel="structures", title=f"{name}: {label}")
                axes.title.set_fontsize(9)
                axes.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS])
                axes.minorticks_off()
                axes.tick_params(axis="both", labelsize=8, colors=INK)
                low, high = axes.get_ylim()
                ticks = [t for k in range(-2, 5) for t in (10.0**k * m for m in (1, 2, 3, 5, 7)) if low <= t <= high]
                axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        grid[0, 0].legend()


def table(results: dict[str, Any]) -> str:
    """Return the errors as Markdown: random as mean and range."""
    heading = "| pool | structures | chosen by | atoms | F | F, 95 % | E | E, 95 % | F at random, as many atoms |"
    lines = [heading, "|---" * 9 + "|"]
    for name, entry in results.items():
        for budget in series(entry, "random", "force")[0]:
            for by in COLOURS:
                cells = []
                for metric in ("atoms", *METRICS):
                    budgets, values = series(entry, by, metric)
                    if budget not in budgets:
                        continue
                    found = values[budgets.index(budget)]
                    spread = f" ({_three(found.min())}-{_three(found.max())})" if len(found) > 1 else ""
                    cells.append(_three(found.mean()) + spread)
                if cells:
                    cells.append("" if by == "random" else at_random(entry, by, budget))
                    lines.append(f"| {name} | {budget} | {by} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(results: dict[str, Any], metric: str) -> str:
    """Return how often and by how much each way is better than chance, over all pools and budgets."""
    lines = []
    for by in ("coverage", "diversity", "uncertainty"):
        better = best = 0
        ratios = []
        for entry in results.values():
            for chosen, chance in zip(series(entry, by, metric)[1], series(entry, "random", metric)[1], strict=True):
                ratios.append(chosen.mean() / chance.mean())
                better += chosen.mean() < chance.mean()
                best += chosen.mean() < chance.min()
        lines.append(
            f"{METRICS[metric]}: {by} is better than the mean of chance in {better} of {len(ratios)} points, than the "
            f"best seed in {best}; ratio to the mean {np.median(ratios):.2f} (median), {max(ratios):.2f} (worst)"
        )
    return "\n".join(lines)


def at_random(entry: dict[str, Any], by: str, budget: int) -> str:
    """Return the force error of random choices with as many atoms, interpolated between budgets."""
    budgets, atoms = series(entry, by, "atoms")
    wanted = atoms[budgets.index(budget)].mean()
    sizes, errors = ([value.mean() for value in series(entry, "random", metric)[1]] for metric in ("atoms", "force"))
    if not 0.95 * sizes[0] <= wanted <= 1.05 * sizes[-1]:
        return "-"
    return _three(float(np.exp(np.interp(np.log(wanted), np.log(sizes), np.log(errors)))))


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _write_json(path: Path, values: Any) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Make the pools, the curves, a plot and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", nargs="+", choices=[pool.name for pool in POOLS], help="which (default: all)")
    parser.add_argument("--work", type=Path, default=Path("runs/selection"), metavar="FOLDER")
    parser.add_argument("--plot", type=Path, default=Path("docs/plots/selection-curves.png"), metavar="FILE")
    parser.add_argument(
        "--show", action="store_true", help="only draw and print what is there (in the work folder, or beside the plot)"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore", LamWarning)
    file = args.work / "results.json"
    kept = args.plot.with_suffix(".json")
    found = next((path for path in (file, kept) if path.is_file()), None)
    results = json.loads(found.read_text(encoding="utf-8")) if found else {}
    if not args.show:
        args.work.mkdir(parents=True, exist_ok=True)
        base = load("lam-nano")
        base.metadata = CheckpointMetadata(name="lam-nano")  # forgetting is not measured here
        for pool in POOLS:
            if args.pools is None or pool.name in args.pools:
                curves(base, pool, args.work, results)
    results = {pool.name: results[pool.name] for pool in POOLS if pool.name in results}
    _write_json(kept, results)
    plot(results, args.plot)
    print(table(results))
    for metric in METRICS:
        print(verdict(results, metric))
    points = [values for entry in results.values() for values in entry["points"].values()]
    print(f"{len(points)} fine-tunes, {sum(values['cpu_seconds'] for values in points):.0f} s of processor time")


if __name__ == "__main__":
    main()
