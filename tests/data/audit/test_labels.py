"""Units, signs, placeholders and balance of labels: every planted mistake is named, right data stay clean."""

import re
from dataclasses import replace

import numpy as np
import pytest

HARTREE, BOHR, KCAL, GPA = 27.2114, 0.529177, 23.0605, 160.2177


def said(findings, *levels):
    return "\n".join(f"{f.kind}: {f.message}" for f in findings if f.level in (levels or ("error", "warning")))


def test_right_data_stay_clean(crystals, molecules, findings_of):
    assert said(findings_of(crystals)) == ""
    assert said(findings_of(molecules)) == ""
    assert said(findings_of([*crystals, *molecules])) == ""
    assert "energies and stress belong together" in said(findings_of(crystals), "note")


def test_messy_but_right_data_stay_clean(crystals, molecules, findings_of):
    """Shuffled, some labels missing, energies rounded, atoms wrapped: unpleasant, but no mistake."""
    rng = np.random.default_rng(1)
    frames = []
    for structure in rng.permutation(np.array([*crystals, *molecules], dtype=object)):
        changes = {"energy": round(structure.energy, 4)}
        if structure.pbc.all():
            whole = rng.integers(-2, 3, size=(len(structure), 3))
            changes["positions"] = structure.positions + whole @ structure.cell
            if rng.random() < 0.3:
                changes["stress"] = None
        frames.append(replace(structure, **changes))
    findings = findings_of(frames)
    assert said(findings) == ""
    assert re.search(r"of 320 structures have a label for stress", said(findings, "note"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"stress": s.stress * GPA}, "the stress is in GPa"),
        (lambda s: {"stress": s.stress * -10 * GPA}, "the stress is in kbar with the wrong sign"),
        (lambda s: {"stress": -s.stress}, "the stress has the wrong sign"),
        (lambda s: {"stress": s.stress * s.volume}, "the stress is a virial with the sign of a stress"),
        (lambda s: {"stress": -s.stress * s.volume}, "the stress is a virial: .* its sign is the opposite"),
        (lambda s: {"forces": -s.forces, "stress": -s.stress}, "forces have the wrong sign.*\n.*stress has the wrong"),
        (lambda s: {"positions": s.positions / BOHR, "cell": s.cell / BOHR}, "are the positions in Bohr"),
        (lambda s: {"cell": s.cell / BOHR}, "the cells are in Bohr"),
        (lambda s: {"positions": s.positions / 10, "cell": s.cell / 10}, "are the positions in nm"),
        (lambda s: {"forces": s.forces * (np.arange(len(s)) > 2)[:, None]}, "120 structures some atoms have forces of"),
    ],
)
def test_mistakes_in_crystals_are_named(crystals, findings_of, change, words):
    assert re.search(words, said(findings_of([replace(s, **change(s)) for s in crystals])))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"energy": s.energy / HARTREE, "forces": None}, "all-electron total energies in Hartree"),
        (lambda s: {"energy": s.energy * KCAL, "forces": None}, "all-electron total energies in kcal/mol"),
        (lambda s: {"energy": s.energy * KCAL, "forces": s.forces * KCAL}, "forces are very large"),
        (
            lambda s: {"energy": s.energy / HARTREE, "forces": s.forces / HARTREE * BOHR},
            "the energies are in Hartree\n(.|\n)*the forces are in Hartree/Bohr",
        ),
        (lambda s: {"forces": -s.forces}, "the forces have the wrong sign"),
        (lambda s: {"forces": s.forces * KCAL}, "the forces are in kcal/mol/Angstrom"),
        (lambda s: {"forces": s.forces[::-1]}, "the forces turn the molecules"),
        (lambda s: {"forces": s.forces[:, [1, 2, 0]]}, "the forces turn the molecules"),
    ],
)
def test_mistakes_in_shuffled_molecules_are_named(molecules, findings_of, change, words):
    """No trajectory, every molecule turned at random: like structures are compared, wherever they are."""
    order = np.random.default_rng(2).permutation(len(molecules))
    assert re.search(words, said(findings_of([replace(molecules[k], **change(molecules[k])) for k in order])))


def test_a_part_with_another_sign_or_unit(crystals, molecules, findings_of):
    flipped = [replace(s, forces=-s.forces) if s.group.startswith("run1") else s for s in crystals]
    text = said(findings_of(flipped))
    assert re.search(r"in \d+ of \d+ similar pairs probably the forces have the wrong sign", text)
    assert "crystals.extxyz#3" in text and "crystals.extxyz#6" not in text

    mixed = [replace(s, positions=s.positions / BOHR) if k % 7 == 0 else s for k, s in enumerate(molecules)]
    findings = [f for f in findings_of(mixed) if "look in Bohr" in f.message]
    assert len(findings) == 1 and findings[0].count == 29
    assert set(findings[0].structures) == {s.source for s in molecules[::7]}


@pytest.mark.parametrize("label", ["energy", "forces", "stress"])
def test_zeros_are_placeholders(crystals, findings_of, label):
    frames = [replace(s, **{label: 0 * getattr(s, label)}) if k % 10 == 0 else s for k, s in enumerate(crystals)]
    (found,) = [f for f in findings_of(frames) if f.kind == "placeholder"]
    assert found.count == 12 and found.structures[:2] == ("crystals.extxyz#0", "crystals.extxyz#10")


def test_forces_that_vanish_by_symmetry_are_no_placeholders(crystal_of_symmetry, findings_of):
    assert "placeholder" not in said(findings_of(crystal_of_symmetry))


def test_one_energy_copied_to_many_frames(crystals, findings_of):
    frames = [replace(s, energy=crystals[40].energy) if 40 <= k < 50 else s for k, s in enumerate(crystals)]
    assert "is the energy of 10" in said(findings_of(frames))


def test_single_frames_that_do_not_fit(crystals, findings_of):
    frames = list(crystals)
    frames[40] = replace(frames[40], energy=frames[40].energy + 1.5)
    frames[77] = replace(frames[77], forces=frames[77].forces + 5 * np.eye(len(frames[77]), 3))
    findings = {f.kind: f for f in findings_of(frames) if f.suspicious}
    assert findings["outliers"].structures == ("crystals.extxyz#40",) and "+1.50 eV" in findings["outliers"].message
    assert findings["forces"].structures == ("crystals.extxyz#77",)


def test_findings_say_how_sure_why_and_what_to_do(crystals, findings_of):
    frames = [replace(s, stress=-s.stress) for s in crystals]
    for finding in findings_of([*frames, frames[0]]):
        assert 0 < finding.confidence <= 1 and finding.why
        assert finding.action or not finding.suspicious
        values = finding.to_dict()
        assert set(values) >= {"level", "kind", "message", "structures", "count", "confidence", "why", "action"}
