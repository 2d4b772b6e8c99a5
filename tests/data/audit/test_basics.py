"""The audit finds what was planted, and nothing in good data."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ase.io import write

from lam.data.audit import Auditor, audit
from lam.data.describe import DataInput
from lam.data.structure import Structure

SPRING, LENGTH = 3.0, 1.2


def _chain(positions, cell):
    """Energy, forces and stress of three atoms with springs to their neighbours along a periodic ring."""
    order = [(0, 1, 0), (1, 2, 0), (2, 0, 1)]
    energy, forces, virial = -30.0, np.zeros((3, 3)), np.zeros((3, 3))
    for i, j, image in order:
        vector = positions[j] + image * cell[0] - positions[i]
        length = np.linalg.norm(vector)
        energy += 0.5 * SPRING * (length - LENGTH) ** 2
        pull = SPRING * (length - LENGTH) * vector / length
        forces[i] += pull
        forces[j] -= pull
        virial += np.outer(vector, pull)
    return energy, forces, virial / abs(np.linalg.det(cell))


@pytest.fixture
def trajectory():
    """120 neighbouring frames of a ring of springs: moving atoms first, then a changing cell."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(120):
        width = 1.0 if number < 60 else 1.0 + 0.02 * np.sin(number)
        cell = np.diag([3.9, 4.0, 4.0]) * width
        positions = (np.array([[0.0, 1, 1], [1.25, 1, 1], [2.6, 1, 1]]) + rng.normal(scale=0.03, size=(3, 3))) * width
        energy, forces, stress = _chain(positions, cell)
        frames.append(
            Structure(
                numbers=np.array([8, 1, 1]),
                positions=positions,
                cell=cell,
                pbc=np.ones(3, dtype=bool),
                energy=energy,
                forces=forces,
                stress=stress,
                group=f"run{number // 6}",
                source=f"t#{number}",
            )
        )
    return frames


def _findings(structures):
    auditor = Auditor()
    for structure in structures:
        auditor.update(structure)
    return auditor.findings()


def _text(findings, level="warning"):
    return "; ".join(f.message for f in findings if f.level == level)


def test_good_data_is_not_suspicious(trajectory):
    findings = _findings(trajectory)
    assert not [f for f in findings if f.level != "note"], findings
    assert "forces belong together" in _text(findings, "note")
    assert "stress belong together" in _text(findings, "note")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"forces": -s.forces}, "forces have the wrong sign"),
        (lambda s: {"forces": s.forces / 51.4221}, "the forces are in Hartree/Bohr"),
        (lambda s: {"energy": s.energy / 27.2114}, "energies are in Hartree"),
        (lambda s: {"energy": s.energy * 23.0605}, "energies are in kcal/mol"),
        (lambda s: {"forces": s.forces * 23.0605}, "forces are in kcal/mol"),
        (lambda s: {"stress": -s.stress}, "stress has the wrong sign"),
        (lambda s: {"stress": s.stress * 160.2177}, "stress is in GPa"),
        (lambda s: {"stress": s.stress * -1602.177}, "stress is in kbar with the wrong sign"),
        (lambda s: {"forces": s.forces + 0.5}, "do not sum to zero"),
        (lambda s: {"positions": s.positions / 0.529177, "cell": s.cell / 0.529177}, "in Bohr"),
        (lambda s: {"forces": None}, "no structure has a label for forces"),
        (lambda s: {"energy": None}, "no structure has a label for energy"),
    ],
)
def test_systematic_mistakes_are_named(trajectory, change, words):
    findings = _findings([replace(s, **change(s)) for s in trajectory])
    assert re.search(words, _text(findings)), findings


def test_planted_duplicates_contradictions_and_outliers(trajectory):
    frames = [*trajectory, replace(trajectory[3], source="t#200"), replace(trajectory[5], source="t#201", energy=-25.0)]
    frames[7] = replace(frames[7], energy=frames[7].energy - 50.0)
    findings = _findings(frames)
    assert "2 structures repeat: t#200 = t#3; t#201 = t#5" in _text(findings)
    assert "1 repeated structures have different energies: t#201 = t#5" in _text(findings)
    assert "t#7" in _text(findings, "note")


def test_overlap_and_radicals(molecule):
    good = [molecule(seed) for seed in range(5)]
    near = molecule(9, positions=np.array([[0.0, 0, 0], [0.2, 0, 0], [1.5, 0, 0]]))
    radical = molecule(8, numbers=(8, 1))
    text = _text(_findings([*good, near, radical]))
    assert "overlap in 1: molecules.extxyz#9 (0.20 A)" in text
    assert "1 molecules have an odd number of electrons, but state neither charge nor multiplicity" in text
    assert "odd number" not in _text(_findings([*good, replace(radical, spin_multiplicity=2.0)]))


def test_broken_frames_and_unread_keys_of_a_file(tmp_path, trajectory):
    frames = [s.to_atoms() for s in trajectory]
    for atoms in frames:
        atoms.info["dft_energy"] = 1.0
    write(tmp_path / "t.extxyz", frames)
    with open(tmp_path / "t.extxyz", "a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3 energy=nan\nH 0 0 0\n5\nProperties=")
    findings = audit(DataInput("t", tmp_path / "t.extxyz"))
    errors = _text(findings, "error")
    assert (
        "2 frame(s) cannot be used" in errors and "t.extxyz#120: the energy is nan" in errors and "truncated" in errors
    )
    assert "'dft_energy' (120 frames) looks like a label" in _text(findings)
