"""Labels that are impossibly low are found, whatever the zero of the method; others stay."""

import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.io.extxyz import write_xyz

from lam.corpus.sound import composition_residuals, find_collapsed, write_without
from lam.data.readers import read_atoms

LEVELS = {1: -13.0, 6: -150.0, 8: -430.0, 29: -1650.0}
"""eV per atom: the zero of a method."""


@pytest.fixture
def frames():
    random = np.random.default_rng(0)
    frames = []
    for _ in range(80):
        numbers = random.choice(list(LEVELS), random.integers(2, 7))
        atoms = Atoms(numbers, 2.0 * np.arange(len(numbers))[:, None] * np.ones(3))
        bound = random.uniform(0, 5) - (20 if random.random() < 0.1 else 0)  # some are compressed to +20
        atoms.info["REF_energy"] = sum(LEVELS[z] for z in numbers) - bound * len(numbers)
        frames.append(atoms)
    return frames


def written(frames, path):
    with gzip.open(path, "wt") as file:
        for atoms in frames:
            write_xyz(file, atoms)
    return path


def test_sound_labels_stay(frames, tmp_path):
    assert find_collapsed([written(frames, tmp_path / "a.extxyz.gz")]) == {}
    assert find_collapsed([]) == {}


def test_collapsed_ones_are_found_and_left_out(frames, tmp_path):
    frames[3].info["REF_energy"] -= 700.0
    frames[50].info["REF_energy"] -= 15 * len(frames[50])
    first, second = written(frames[:40], tmp_path / "a.extxyz.gz"), written(frames[40:], tmp_path / "b.extxyz.gz")
    assert find_collapsed([first, second]) == {first: [3], second: [10]}
    write_without(second, tmp_path / "c.extxyz.gz", [10])
    left = [atoms.info["REF_energy"] for _, atoms in read_atoms(tmp_path / "c.extxyz.gz")]
    assert left == [atoms.info["REF_energy"] for i, atoms in enumerate(frames[40:]) if i != 10]


def test_few_wrong_ones_do_not_move_the_fit():
    counts = np.array([[1.0, 0], [0, 1], [1, 1], [2, 1], [1, 2], [3, 1], [1, 3], [2, 3]])
    energies = counts @ [-10.0, -20.0]
    energies[2] -= 500
    residuals = composition_residuals(counts, energies)
    assert residuals[2] == pytest.approx(-250, abs=0.1)
    assert np.abs(np.delete(residuals, 2)).max() < 0.1
