"""ASE calculators that misbehave on purpose, used as ``ase:fakes.NAME``. Helium springs: energies that are known."""

import os
import subprocess
import sys
import time

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

HELIUM, NEON, ARGON = 2, 10, 18


class Springs(Calculator):
    """All pairs are springs of rest length 1: quick, smooth, and with stress for periodic cells of one image."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, log=None, seconds=0.0, **kwargs):
        super().__init__(**kwargs)
        self.log, self.seconds = log, seconds

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.log:
            with open(self.log, "a") as file:  # who calculated what
                file.write(f"{os.getpid()} {atoms.positions[0, 0]!r}\n")
        self.misbehave(atoms)
        time.sleep(self.seconds)
        vectors = atoms.positions[:, None] - atoms.positions[None]
        lengths = np.linalg.norm(vectors, axis=2) + np.eye(len(atoms))
        stretch = lengths - 1
        self.results["energy"] = 0.25 * float((stretch**2).sum())
        self.results["forces"] = -(vectors / lengths[..., None] * stretch[..., None]).sum(axis=1)

    def misbehave(self, atoms):
        """Do what the subclass is for."""


class Sleeper(Springs):
    """Never ends when it sees argon, and starts an external program that would not end either."""

    def misbehave(self, atoms):
        if ARGON in atoms.numbers:
            program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            with open(self.log, "a") as file:
                file.write(f"{program.pid} program\n")
            program.wait()


class Hanging(Springs):
    """Holds the interpreter's lock in C and ignores signals when it sees argon, as a stuck Fortran call would."""

    def misbehave(self, atoms):
        if ARGON in atoms.numbers:
            import ctypes
            import signal

            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the lock


class Troubled(Springs):
    """Helium raises, neon crashes the process, argon gives NaN."""

    def misbehave(self, atoms):
        if HELIUM in atoms.numbers:
            raise RuntimeError("no basis for helium")
        if NEON in atoms.numbers:
            print("neon is too noble", file=sys.stderr, flush=True)
            os.abort()

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        print("engines print what they like")
        if ARGON in atoms.numbers:
            self.results["energy"] = float("nan")


class State(Springs):
    """Its energy says which charge and multiplicity it was given."""

    def __init__(self, charge=0, mult=1, **kwargs):
        super().__init__(**kwargs)
        self.told = 10.0 * charge + mult

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = self.told


class FreeEnergy(Springs):
    """Has an energy besides the free energy, and says that it did not converge when it sees argon."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["free_energy"] = self.results["energy"]
        self.results["energy"] += 100.0
        self.converged = ARGON not in atoms.numbers


class KillsWorker(Springs):
    """Ends the worker that asked, not only the calculation, when it sees argon."""

    def misbehave(self, atoms):
        if ARGON in atoms.numbers:
            import signal

            import psutil

            guard = psutil.Process(os.getppid())
            os.kill(guard.ppid(), signal.SIGKILL)
            time.sleep(600)
