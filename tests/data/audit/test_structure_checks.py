"""Duplicates, leakage, mixed theory, charge states and odd cells: planted ones are found, and named."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from lam.data.audit.duplicates import NEAR, SAME
from lam.data.audit.fingerprint import displacement, mismatch
from lam.data.structure import Structure


def said(findings, *levels):
    return "\n".join(f"{f.kind}: {f.message}" for f in findings if f.level in (levels or ("error", "warning")))


def turned(structure, seed=0, **changes):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = {"positions": structure.positions @ turn + 1.7, "forces": structure.forces @ turn}
    if structure.stress is not None:
        moved |= {"cell": structure.cell @ turn, "stress": turn.T @ structure.stress @ turn}
    return replace(structure, **(moved | changes))


def permuted(structure, **changes):
    order = np.random.default_rng(1).permutation(len(structure))
    arrays = {key: getattr(structure, key)[order] for key in ("numbers", "positions", "forces")}
    return replace(structure, **(arrays | changes))


def doubled(structure, **changes):
    twice = {
        "numbers": np.tile(structure.numbers, 2),
        "positions": np.concatenate([structure.positions, structure.positions + structure.cell[1]]),
        "forces": np.tile(structure.forces, (2, 1)),
        "cell": structure.cell * np.array([[1], [2], [1]]),
        "energy": 2 * structure.energy,
    }
    return replace(structure, **(twice | changes))


def sheared(structure, **changes):
    return replace(structure, cell=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]) @ structure.cell, **changes)


def shaken(structure, size=0.004, **changes):
    noise = np.random.default_rng(4).normal(scale=size, size=structure.positions.shape)
    change = -float((structure.forces * noise).sum())
    return replace(structure, positions=structure.positions + noise, energy=structure.energy + change, **changes)


@pytest.mark.parametrize("change", [turned, permuted, doubled, sheared])
def test_the_same_crystal_however_it_is_written(crystals, findings_of, change):
    copy = change(crystals[50], source="copy#0")
    assert mismatch(crystals[50], copy) < SAME and mismatch(crystals[51], copy) > NEAR
    (found,) = [f for f in findings_of([*crystals, copy]) if f.kind == "near-duplicates" and f.suspicious]
    assert found.structures == ("copy#0",) and "copy#0 ~ crystals.extxyz#50" in found.message


@pytest.mark.parametrize("change", [turned, permuted])
def test_the_same_molecule_however_it_is_written(molecules, findings_of, change):
    copy = change(molecules[60], source="copy#0")
    (found,) = [f for f in findings_of([*molecules, copy]) if f.kind == "near-duplicates" and f.suspicious]
    assert "1 structures" in found.message and "copy#0 ~ molecules.extxyz#60" in found.message


def test_near_duplicates_are_notes_until_their_energies_disagree(crystals, findings_of):
    near = shaken(crystals[50], source="near#0")
    assert SAME < mismatch(crystals[50], near) < NEAR
    findings = findings_of([*crystals, near])
    assert "near#0 ~ crystals.extxyz#50" in said(findings, "note") and said(findings) == ""
    wrong = replace(near, energy=near.energy + 0.3 * len(near))
    text = said(findings_of([*crystals, wrong]))
    assert re.search(r"contradictions: 1 pairs .* near#0 and crystals.extxyz#50 \(\+0.\d+ eV/atom\)", text)


def test_repeats_with_and_without_the_same_labels(crystals, findings_of):
    repeats = [replace(crystals[3], source="r#0"), replace(crystals[9], source="r#1", energy=crystals[9].energy + 1)]
    findings = findings_of([*crystals, *repeats])
    (found,) = [f for f in findings if f.kind == "duplicates"]
    assert found.structures == ("r#0", "r#1") and found.repair.rows == (120,)  # what contradicts is never dropped
    assert "r#1 = crystals.extxyz#9" in said(findings)


def test_other_charge_is_no_duplicate(molecules, findings_of):
    frames = [replace(s, total_charge=0.0, spin_multiplicity=1.0) for s in molecules]
    cation = replace(frames[5], total_charge=2.0, energy=frames[5].energy + 20, source="cation#0")
    assert "duplicates" not in said(findings_of([*frames, cation]))


def test_displacement_ignores_rotation_and_images(crystals, molecules):
    assert displacement(molecules[0], turned(molecules[0], seed=3)) < 1e-6
    assert displacement(molecules[0], molecules[1]) > 0.05
    assert displacement(molecules[0], replace(molecules[0], positions=molecules[0].positions + 5.0)) < 1e-9
    moved = replace(crystals[0], positions=crystals[0].positions + crystals[0].cell[0] + 0.2)
    assert displacement(crystals[0], moved) < 1e-6


# -- theory and state ---------------------------------------------------------------------------


def test_two_levels_of_theory_along_trajectories(crystals, findings_of):
    rng = np.random.default_rng(0)
    mixed = [replace(s, energy=s.energy + 0.05 * len(s)) if rng.random() < 0.3 else s for s in crystals]
    (found,) = [f for f in findings_of(mixed) if f.kind == "theory"]
    assert re.search(r"energies jump by 0.0(5|49)\d* eV/atom", found.message)


def test_two_levels_of_theory_without_forces(more_molecules, findings_of):
    molecules = more_molecules(("C2H6", "CH3OH", "NH3"), count=40, scale=0.02)
    rng = np.random.default_rng(5)
    odd = rng.random(len(molecules)) < 0.3
    mixed = [replace(s, forces=None, energy=s.energy + o * 0.4 * len(s)) for s, o in zip(molecules, odd, strict=True)]
    findings = [f for f in findings_of(mixed) if f.kind in ("theory", "state") and f.suspicious]
    assert sum(f.count for f in findings) == odd.sum()
    assert all("two populations" in f.message for f in findings)


def test_a_part_of_the_energies_in_hartree(molecules, findings_of):
    mixed = [replace(s, energy=s.energy / 27.2114) if k % 4 == 0 else s for k, s in enumerate(molecules)]
    (found,) = [f for f in findings_of(mixed) if "Hartree and eV" in f.message]
    assert found.kind == "units" and found.count in (50, 150)


def test_charge_states_hidden_in_energies(more_molecules, findings_of):
    neutral = more_molecules(("CH3OH", "C2H6"), count=40, scale=0.03)
    ionised = [replace(s, energy=s.energy + 8.7) if k % 3 == 0 else s for k, s in enumerate(neutral)]
    assert "charge or spin states?" in said(findings_of(ionised))
    assert "two populations" not in said(findings_of(neutral))


def test_two_phases_are_no_two_levels_of_theory(findings_of):
    """The same composition in two crystal structures, far apart in energy: like structures have like energies."""
    rng = np.random.default_rng(6)
    frames = []
    for number in range(60):
        atoms = bulk("Cu", "fcc" if number % 2 else "sc", a=3.6 if number % 2 else 2.4) * (2, 2, 2)
        atoms.rattle(0.02, rng=rng)
        frames.append(
            Structure(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=True,
                energy=(-3.5 if number % 2 else -3.0) * len(atoms) + rng.normal(scale=0.01),
                source=f"phases#{number}",
            )
        )
    assert "theory" not in said(findings_of(frames))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group": "anion of methanol"}, "ions by name"),
        ({"group": "[NH4+]"}, "ions by name"),
        ({"total_charge": 0.0, "spin_multiplicity": 2.0}, "error: .*number of electrons forbids"),
        ({"total_charge": 1.0, "spin_multiplicity": 1.0}, "error: .*number of electrons forbids"),
    ],
)
def test_charge_and_spin(molecules, findings_of, changes, words):
    findings = findings_of([replace(s, **changes) for s in molecules])
    assert any(re.search(words, f"{f.level}: {f.message}") for f in findings if f.kind == "state" and f.suspicious)


@pytest.mark.parametrize("group", ["ionic liquids", "[NH3+]CC(=O)[O-]", "regions", "Cu3Au", "optimisation"])
def test_names_that_only_look_like_ions(molecules, findings_of, group):
    assert "ions by name" not in said(findings_of([replace(s, group=group) for s in molecules[:20]]))


# -- cells --------------------------------------------------------------------------------------


def test_odd_cells(crystals, findings_of):
    flat = np.array([[4.0, 0, 0], [3.999, 0.06, 0], [0, 0.3, 30.0]])
    odd = [
        replace(crystals[0], cell=flat, source="flat#0", stress=None),
        replace(crystals[1], cell=crystals[1].cell * 0.3, source="tiny#0", stress=None),
        replace(crystals[2], cell=np.eye(3) * 90.0, source="empty#0", stress=None),
    ]
    findings = {f.structures: f for f in findings_of([*crystals, *odd]) if f.kind == "cell"}
    messages = {name: f.message for names, f in findings.items() for name in names}
    assert "nearly flat" in messages["flat#0"] or "too small" in messages["flat#0"]
    assert "too small for their atoms" in messages["tiny#0"] and "almost empty" in messages["empty#0"]


def test_crystals_that_are_not_periodic(findings_of):
    frames = []
    for number in range(5):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
        atoms.rattle(0.03, seed=number)
        atoms.positions += 1.0
        frames.append(Structure.from_atoms(atoms, source=f"salt#{number}"))
    assert "cell" not in said(findings_of(frames))
    loose = [replace(s, pbc=False) for s in frames]
    assert "5 structures have a cell but are not periodic" in said(findings_of(loose))
    boxed = [
        replace(Structure.from_atoms(molecule("C6H6", vacuum=6.0)), source=f"benzene#{number}", pbc=False)
        for number in range(3)
    ]
    assert "cell" not in said(findings_of(boxed))


def test_crystals_that_lost_one_direction(crystals, findings_of):
    lost = np.array([True, True, False])
    frames = [replace(s, pbc=lost, stress=None) if k % 4 == 0 else s for k, s in enumerate(crystals[:40])]
    assert "structures have a cell but are not periodic (in all directions)" in said(findings_of(frames))


def test_slabs_with_vacuum_stay_clean(crystals, findings_of):
    lost = np.array([True, True, False])
    slabs = []
    for s in crystals[:40]:
        cell = s.cell.copy()
        cell[2] *= 3
        slabs.append(replace(s, cell=cell, pbc=lost, stress=None))
    assert "not periodic" not in said(findings_of(slabs))
