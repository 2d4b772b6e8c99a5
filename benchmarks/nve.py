"""Does the energy of a long constant-energy run drift? Water, in single precision, through the ASE calculator.

The box is relaxed, heated with a Langevin thermostat, then left to itself; the drift is the slope of a straight
line through the total energy, per atom.

    python benchmarks/nve.py                                   # lam-nano, 192 atoms, 20 ps
    python benchmarks/nve.py --model runs/mine/mine --head scan --picoseconds 5
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from harness import report
from harness.structures import water_box
from rich.progress import Progress

from lam.calculators import LAMCalculator
from lam.errors import LamError

HEADER = ("", "value")
ROWS = {
    "drift_mev_per_atom_and_ps": "drift, meV per atom and ps",
    "scatter_mev_per_atom": "scatter about the line, meV per atom",
    "mean_temperature_k": "mean temperature, K",
    "atoms": "atoms",
    "milliseconds_per_step": "ms per step",
    "ps_per_day": "ps per day",
}
"""Result -> what the table calls it."""
EVERY = 20
"""Steps between the energies that are kept."""


def equilibrate(atoms: Atoms, *, temperature: float, steps: int, step: float) -> None:
    """Relax the worst contacts and heat to ``temperature`` (K) in ``steps`` of ``step`` fs."""
    FIRE(atoms, logfile=None).run(fmax=1.0, steps=100)
    random = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=random)
    Stationary(atoms)
    friction = 0.02 / units.fs
    Langevin(atoms, step * units.fs, temperature_K=temperature, friction=friction, fixcm=False, rng=random).run(steps)
    Stationary(atoms)


def run_nve(atoms: Atoms, *, steps: int, step: float, every: int, show: bool) -> dict[str, np.ndarray]:
    """Run at constant energy; return time (ps), total energy per atom (eV) and temperature (K), every so many steps."""
    dynamics = VelocityVerlet(atoms, step * units.fs)
    rows: list[tuple[float, float, float]] = []
    with Progress(disable=not show) as progress:
        task = progress.add_task("constant energy", total=steps)
        for done in range(0, steps + 1, every):
            total = atoms.get_potential_energy() + atoms.get_kinetic_energy()
            rows.append((done * step / 1000.0, total / len(atoms), atoms.get_temperature()))
            if done < steps:
                dynamics.run(every)
            progress.update(task, completed=done)
    times, energies, temperatures = np.array(rows).T
    return {"time_ps": times, "energy_ev_per_atom": energies, "temperature_k": temperatures}


def summary(run: dict[str, np.ndarray]) -> dict[str, float]:
    """Return drift (meV/atom/ps), scatter about the line (meV/atom) and mean temperature (K).

    The drift is that of the best straight line: one of a few picoseconds, or less, is mostly chance.
    """
    energies = 1000.0 * run["energy_ev_per_atom"]
    slope, start = np.polyfit(run["time_ps"], energies, 1)
    return {
        "drift_mev_per_atom_and_ps": float(slope),
        "scatter_mev_per_atom": float(np.std(energies - slope * run["time_ps"] - start)),
        "mean_temperature_k": float(run["temperature_k"].mean()),
    }


def plot(path: Path, run: dict[str, np.ndarray], found: dict[str, Any]) -> None:
    """Plot energy and temperature against time."""
    upper, lower = report.new_axes(9.0, 3.4, columns=2)
    energies = 1000.0 * (run["energy_ev_per_atom"] - run["energy_ev_per_atom"][0])
    upper.plot(run["time_ps"], energies, lw=0.7)
    upper.set(xlabel="time (ps)", ylabel="total energy - start (meV/atom)")
    upper.set_title(f"drift {found['drift_mev_per_atom_and_ps']:.4f} meV per atom and ps", fontsize=9)
    lower.plot(run["time_ps"], run["temperature_k"], lw=0.7, color="tab:red")
    lower.set(xlabel="time (ps)", ylabel="temperature (K)")
    report.save_plot(upper, path)


def main() -> None:
    """Equilibrate, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lam-nano", help="name or path of a checkpoint (default: lam-nano)")
    parser.add_argument("--head", default="deepmd-water64", help="head to use (default: deepmd-water64)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"], help="default: float32")
    parser.add_argument("--picoseconds", type=float, default=20.0, help="length of the run (default: 20)")
    parser.add_argument("--heating", type=float, default=2.0, help="length of the heating, ps (default: 2)")
    parser.add_argument("--step", type=float, default=0.5, help="time step, fs (default: 0.5)")
    parser.add_argument("--temperature", type=float, default=300.0, help="K (default: 300)")
    parser.add_argument("--molecules", type=int, default=4, help="water molecules along each side (default: 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    args = parser.parse_args()
    steps = round(1000 * args.picoseconds / args.step / EVERY) * EVERY
    if args.step <= 0 or steps < 2 * EVERY:
        parser.error(f"a drift needs a positive step and at least {2 * EVERY} of them; raise --picoseconds")
    machine = report.machine()
    torch.set_num_threads(args.threads)
    atoms = water_box(args.molecules)
    try:
        atoms.calc = LAMCalculator(args.model, head=args.head, dtype=args.dtype)
    except LamError as error:
        parser.error(str(error))
    equilibrate(atoms, temperature=args.temperature, steps=round(1000 * args.heating / args.step), step=args.step)
    started = time.perf_counter()
    run = run_nve(atoms, steps=steps, step=args.step, every=EVERY, show=sys.stderr.isatty())
    seconds = time.perf_counter() - started
    found: dict[str, Any] = summary(run)
    found |= {
        "picoseconds": steps * args.step / 1000,
        "atoms": len(atoms),
        "milliseconds_per_step": 1000 * seconds / steps,
        "ps_per_day": 86.4 * steps * args.step / seconds,
    }
    rows = [(label, report.number(found[name], 3)) for name, label in ROWS.items()]
    series = {name: values.tolist() for name, values in run.items()}
    title = f"{args.model}, head {args.head}, {len(atoms)} atoms of water, {found['picoseconds']:g} ps, {args.dtype}"
    report.save(args.out, "nve", {"machine": machine, **found, "series": series}, [(title, HEADER, rows)])
    plot(args.out / "nve.png", run, found)


if __name__ == "__main__":
    main()
