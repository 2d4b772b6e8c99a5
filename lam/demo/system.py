"""The system that the demo labels itself: alanine dipeptide by GFN2-xTB, if asked with water around it.

Twenty-two atoms with two soft backbone angles: small enough to label in a minute on two cores, flexible
enough that ten labels do not settle it. It is a finite system on purpose: tblite has no k-points, and its
labels of small periodic cells are not extensive.

Labels come from short independent trajectories (walkers). Training and test frames never share one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.geometry import get_distances
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.optimize import FIRE

from lam.atomic_write import atomic_file
from lam.label.engine_tblite import tblite_calculator

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

DIPEPTIDE: Final = (
    # Ace-Ala-NMe in its extended conformation, relaxed with GFN2-xTB; Angstrom.
    ("C", -3.633, 0.370, 0.129),
    ("C", -2.395, -0.497, 0.078),
    ("O", -2.422, -1.703, 0.223),
    ("N", -1.243, 0.173, -0.133),
    ("C", 0.041, -0.486, -0.140),
    ("C", 0.348, -1.070, -1.526),
    ("C", 1.098, 0.551, 0.241),
    ("O", 0.886, 1.744, 0.161),
    ("N", 2.268, 0.021, 0.641),
    ("C", 3.408, 0.824, 1.018),
    ("H", -4.413, -0.091, -0.470),
    ("H", -3.985, 0.409, 1.158),
    ("H", -3.442, 1.378, -0.224),
    ("H", -1.199, 1.181, -0.210),
    ("H", 0.010, -1.299, 0.597),
    ("H", 0.357, -0.275, -2.269),
    ("H", -0.428, -1.786, -1.780),
    ("H", 1.312, -1.573, -1.534),
    ("H", 2.359, -0.980, 0.710),
    ("H", 3.134, 1.868, 0.874),
    ("H", 4.269, 0.584, 0.392),
    ("H", 3.670, 0.657, 2.064),
)

LABELS_FILE: Final = "labels.extxyz"
TEST_FILE: Final = "test.extxyz"
_SETTINGS_FILE: Final = "labels.json"
_POLAR: Final = (2, 3, 7, 8)  # O and N of the two peptide groups: where waters are put

Progress = Callable[[int, int], None]
"""Called with frames labelled and frames in all."""


@dataclass(frozen=True)
class LabelSettings:
    """How the labels are made; kept beside them, and they are made anew when it changes."""

    method: str = "GFN2-xTB"
    """Level of theory, as tblite names it."""
    waters: int = 0
    """Number of water molecules."""
    temperature: float = 400.0
    """K."""
    train_walkers: int = 5
    """Independent trajectories for training."""
    test_walkers: int = 4
    """Independent trajectories for the test."""
    frames: int = 10
    """Labelled frames per walker."""
    warm_up: int = 120
    """Steps of 1 fs before the first frame."""
    spacing: int = 25
    """Steps of 1 fs between frames."""
    seed: int = 0
    """Of water positions, velocities and thermostat."""


def label_system(
    folder: Path, settings: LabelSettings, *, workers: int = 1, progress: Progress | None = None
) -> tuple[Path, Path]:
    """Label training and test frames, or find them in ``folder`` from an earlier run.

    Args:
        folder: where the labels go.
        settings: how they are made.
        workers: processes that share the work.
        progress: called after each trajectory.

    Returns:
        The files of training labels (walkers take turns, so that the first n frames are as varied as
        can be) and of test labels, extended XYZ with ``REF_energy`` (eV) and ``REF_forces`` (eV/Angstrom).

    Raises:
        LamError: if tblite is not installed.
    """
    labels, test, stamp = folder / LABELS_FILE, folder / TEST_FILE, folder / _SETTINGS_FILE
    if labels.is_file() and test.is_file() and _read_settings(stamp) == asdict(settings):
        return labels, test
    xtb(settings.method)  # is it there? asked before any process is started
    count = settings.train_walkers + settings.test_walkers
    walkers: list[list[Atoms]] = []
    for frames in _all_walkers(count, settings, workers):
        walkers.append(frames)
        if progress is not None:
            progress(len(walkers) * settings.frames, count * settings.frames)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)  # no stamp may vouch for labels of different settings
    _write(labels, _take_turns(walkers[: settings.train_walkers]))
    _write(test, _take_turns(walkers[settings.train_walkers :]))
    with atomic_file(stamp) as temporary:
        temporary.write_text(json.dumps(asdict(settings), indent=1) + "\n", encoding="utf-8")
    return labels, test


def first_labels(labels: Path, count: int) -> Path:
    """Write the first ``count`` frames of ``labels`` to a file of their own beside it; return its path."""
    path = labels.with_name(f"labels-{count}.extxyz")
    _write(path, read(labels, f":{count}"))
    return path


def xtb(method: str) -> Calculator:
    """Return an ASE calculator of the extended tight-binding method.

    Raises:
        LamError: if tblite is not installed.
    """
    return tblite_calculator(method, extra="demo")


def hydrated_dipeptide(waters: int, random: np.random.Generator) -> Atoms:
    """Return alanine dipeptide with ``waters`` water molecules put at random near its polar atoms."""
    cluster = Atoms([row[0] for row in DIPEPTIDE], [row[1:] for row in DIPEPTIDE])
    anchors = random.permutation(np.resize(_POLAR, waters))
    for anchor in anchors:
        cluster += _placed_water(cluster, cluster.positions[anchor], random)
    return cluster


def _placed_water(cluster: Atoms, anchor: np.ndarray, random: np.random.Generator) -> Atoms:
    distance = 2.8
    while True:
        for _ in range(200):
            water = molecule("H2O")
            water.rotate(random.uniform(0, 360), random.normal(size=3), center="COM")
            direction = random.normal(size=3)
            water.positions += anchor + distance * direction / np.linalg.norm(direction)
            if get_distances(water.positions, cluster.positions)[1].min() > 1.8:
                return water
        distance += 0.2  # crowded: further out


def _all_walkers(count: int, settings: LabelSettings, workers: int) -> Iterator[list[Atoms]]:
    if workers < 2:
        yield from (walk(walker, settings) for walker in range(count))
        return
    context = get_context("spawn")  # fork after PyTorch has started its threads can hang
    with _environment(OMP_NUM_THREADS="1"), ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(partial(walk, settings=settings), range(count))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables for processes started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def walk(walker: int, settings: LabelSettings) -> list[Atoms]:
    """Return the labelled frames of one trajectory, started from its own arrangement of the waters."""
    random = np.random.default_rng([settings.seed, walker])
    atoms = hydrated_dipeptide(settings.waters, random)
    atoms.calc = xtb(settings.method)
    FIRE(atoms, logfile=None).run(fmax=0.5, steps=60)  # away from clashes, not to the minimum
    widths = np.sqrt(atoms.get_masses() * units.kB * settings.temperature)
    atoms.set_momenta(widths[:, None] * random.normal(size=(len(atoms), 3)))
    dynamics = Langevin(
        atoms, units.fs, temperature_K=settings.temperature, friction=0.02 / units.fs, fixcm=False, rng=random
    )
    dynamics.run(settings.warm_up)
    frames = []
    for _ in range(settings.frames):
        dynamics.run(settings.spacing)
        frame = Atoms(atoms.numbers, atoms.positions)
        frame.info.update(REF_energy=atoms.get_potential_energy(), group=f"walker-{walker}", charge=0, spin=1)
        frame.arrays["REF_forces"] = atoms.get_forces()
        frames.append(frame)
    return frames


def _take_turns(walkers: list[list[Atoms]]) -> list[Atoms]:
    return [frame for turn in zip(*walkers, strict=True) for frame in turn]


def _write(path: Path, frames: list[Atoms]) -> None:
    with atomic_file(path) as temporary:
        write(temporary, frames, format="extxyz")


def _read_settings(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
