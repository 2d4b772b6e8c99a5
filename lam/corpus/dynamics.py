"""Short molecular dynamics by a labelling engine, from structures of the corpus, at several temperatures."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from lam.corpus.sample import DECIMALS, closest_contact
from lam.data.structure import Structure
from lam.label.killable import Failure, KillableEngine

TEMPERATURES = (200.0, 300.0, 600.0, 1000.0, 1800.0)
"""Kelvin."""
FRAMES = 8
"""Structures taken from one trajectory."""
STEPS = 6
"""Steps between them."""
SETTLE = 12
"""Steepest-descent steps first: what rules built is not in equilibrium, and would heat up."""
MAX_ATOMS = 24
FRICTION = 0.02
"""Of the Langevin thermostat, 1/fs."""
MIN_CONTACT = 0.5
"""A trajectory ends where atoms are closer than this times their covalent radii."""


@dataclass(frozen=True)
class Start:
    """One trajectory to calculate."""

    name: str
    atoms: Atoms
    temperature: float
    seed: int


def choose_starts(frames: Sequence[Atoms], count: int, seed: int, name: str) -> list[Start]:
    """Choose starting structures of at most :data:`MAX_ATOMS` atoms, each group once before any twice.

    Args:
        frames: structures of the corpus, of the families that one engine labels.
        count: frames wanted of all trajectories together.
        seed: of the corpus.
        name: of the family of trajectories.
    """
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    groups: dict[str, list[Atoms]] = {}
    for atoms in frames:
        if 2 < len(atoms) <= MAX_ATOMS and not atoms.pbc.any():
            groups.setdefault(atoms.info["group"], []).append(atoms)
    names = [sorted(groups)[i] for i in random.permutation(len(groups))]
    starts = []
    for number in range(-(-count // FRAMES) if names else 0):
        members = groups[names[number % len(names)]]
        atoms = members[int(random.integers(len(members)))]
        temperature = TEMPERATURES[int(random.integers(len(TEMPERATURES)))]
        starts.append(Start(f"{number:05d}", atoms, temperature, int(random.integers(2**31))))
    return starts


def run_dynamics(start: Start, engine: KillableEngine, family: str, time_limit: float) -> tuple[list[Atoms], str]:
    """Settle and run Langevin dynamics.

    Args:
        start: where, how hot.
        engine: what calculates forces.
        family: stated with the frames.
        time_limit: seconds for one calculation of forces.

    Returns:
        The frames so far, and why it ended early (empty if it did not).
    """
    random = np.random.default_rng(start.seed)
    atoms = start.atoms
    # Plain numbers: files give those of NumPy, which messages to the engine cannot hold.
    state = {key: int(atoms.info[key]) for key in ("total_charge", "spin_multiplicity") if key in atoms.info}
    masses = atoms.get_masses()[:, None]
    step = (0.5 if 1 in atoms.numbers else 1.5) * units.fs
    positions = atoms.positions.copy()
    frames: list[Atoms] = []

    def forces() -> np.ndarray:
        structure = Structure(
            numbers=atoms.numbers, positions=positions, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool), **state
        )
        return np.asarray(engine.calculate(structure, time_limit).forces)

    try:
        force = forces()
        for _ in range(SETTLE):
            largest = np.linalg.norm(force, axis=1).max()
            if largest < 0.5:
                break
            positions += force * min(0.02, 0.1 / largest)
            force = forces()
        velocities = random.normal(size=positions.shape) * np.sqrt(units.kB * start.temperature / masses)
        damping = np.exp(-FRICTION / units.fs * step)
        noise = np.sqrt(units.kB * start.temperature / masses * (1 - damping**2))
        for number in range(1, FRAMES * STEPS + 1):
            velocities += 0.5 * step * force / masses  # BAOAB: half kick, drift, thermostat, drift, half kick
            positions += 0.5 * step * velocities
            velocities = damping * velocities + noise * random.normal(size=positions.shape)
            positions += 0.5 * step * velocities
            force = forces()
            velocities += 0.5 * step * force / masses
            if number % STEPS == 0:
                frame = Atoms(atoms.numbers, np.round(positions - positions.mean(axis=0), DECIMALS) + 0.0)
                if closest_contact(frame) < MIN_CONTACT:
                    return frames, "atoms came too close"
                frame.info |= state
                frame.info |= {"group": atoms.info["group"], "family": family, "kind": f"{start.temperature:g} K"}
                frames.append(frame)
    except Failure as failure:
        return frames, failure.kind
    return frames, ""
