"""The physics suite itself: a sound toy potential passes every check, and each fault fails its own check."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from ase import Atoms

from lam.data.neighbors import neighbor_list
from lam.testing import PotentialPhysicsTests, Result, physics
from lam.testing.structures import DEFAULT_ELEMENTS, isolated_atom, sample_structures

CUTOFF = 4.0


def toy(fault: str = "") -> Callable[[Sequence[Atoms]], list[Result]]:
    """Return a pair potential Z_i Z_j exp(-r) (1 - (r/R)^2)^3, with one fault."""

    def single(atoms: Atoms, number: int, others: Sequence[Atoms]) -> Result:
        pbc = atoms.pbc & (fault != "forgets periodicity")
        edges, shift = neighbor_list(atoms.positions, atoms.cell.array, pbc, CUTOFF)
        vectors = atoms.positions[edges[0]] + shift @ atoms.cell.array - atoms.positions[edges[1]]
        if fault == "forgets second images":
            keep = np.abs(shift).max(axis=1, initial=0.0) < 1
            edges, vectors = edges[:, keep], vectors[keep]
        r = np.linalg.norm(vectors, axis=1)
        u = np.clip(1 - (r / CUTOFF) ** 2, 0, None)
        strength = atoms.numbers[edges[0]] * atoms.numbers[edges[1]] * np.exp(-r)
        hard = fault == "hard cutoff"
        pair = strength * (1 if hard else u**3)
        slope = -pair - (0 if hard else strength * 6 * u**2 * r / CUTOFF**2)
        if fault == "attracts":
            pair, slope = -pair, -slope
        energy = 0.5 * pair.sum() - 1000.0 * len(atoms)
        direction = np.divide(vectors, r[:, None], out=np.zeros_like(vectors), where=r[:, None] > 0)
        pull = 0.5 * slope[:, None] * direction
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, edges[1], pull)
        if fault != "forgets the reaction":
            np.subtract.at(forces, edges[0], pull)
        forces *= 1 + 1e-5 if fault == "forces slightly off" else 1.0
        if fault == "absolute position":
            energy += 1e-3 * atoms.positions[0, 0]
        if fault == "first atom is special":
            energy += 1e-3 * atoms.numbers[0]
        if fault == "handed":
            a, b, c = (atoms.positions[i % len(atoms)] - atoms.positions[0] for i in (1, 2, 3))
            energy += 1e-3 * float(np.dot(np.cross(a, b), c))
        if fault == "leaks" and len(others) > 1:
            energy += 1e-6 * others[0].positions[0, 0]
        if fault == "size matters":
            energy += 1e-3 * len(atoms) ** 2
        if fault == "net force":
            forces[:, 0] += 1e-6
        if fault == "shares":
            energy += 1e-3 * number
        if fault != "ignores charge":
            charge = atoms.info.get("charge", atoms.info.get("total_charge", 0))
            dialects = ("spin", "spin_multiplicity", "total_spin")
            spin = next((atoms.info[key] for key in dialects if key in atoms.info), 1)
            energy += 0.1 * charge + 0.01 * (spin - 1)
        if fault == "nan when overlapping" and (r < 1e-3).any():
            energy = np.nan
        stress = vectors.T @ pull / abs(np.linalg.det(atoms.cell)) if atoms.pbc.all() else None
        if stress is not None and fault == "stress sign":
            stress = -stress
        if fault == "single precision":
            energy = float(np.float32(energy))
        return Result(energy=float(energy), forces=forces, stress=stress)

    return lambda structures: [single(atoms, number, structures) for number, atoms in enumerate(structures)]


class TestToy(PotentialPhysicsTests):
    """A sound potential of somebody else passes the suite by overriding two things."""

    rtol = {"float64": 1e-10, "float32": 1e-5}
    cutoff = CUTOFF

    def make_evaluate(self, dtype):
        return toy()


SAMPLES = sample_structures()
MOLECULE, CRYSTAL, DISORDERED = SAMPLES["molecule"], SAMPLES["skewed crystal"], SAMPLES["disordered"]


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("absolute position", lambda e: physics.check_translation(e, MOLECULE, rtol=1e-10)),
        ("absolute position", lambda e: physics.check_rotation(e, MOLECULE, rtol=1e-10)),
        ("handed", lambda e: physics.check_rotation(e, MOLECULE, rtol=1e-10, improper=True, seed=1)),
        ("first atom is special", lambda e: physics.check_permutation(e, MOLECULE, rtol=1e-10)),
        ("leaks", lambda e: physics.check_batching(e, [MOLECULE, CRYSTAL], rtol=1e-10)),
        ("shares", lambda e: physics.check_batching(e, [MOLECULE, CRYSTAL], rtol=1e-10)),
        ("forgets the reaction", lambda e: physics.check_forces(e, MOLECULE, rtol=1e-6)),
        ("forces slightly off", lambda e: physics.check_forces(e, MOLECULE, rtol=1e-6)),
        ("single precision", lambda e: physics.check_forces(e, MOLECULE, rtol=1e-6)),
        ("stress sign", lambda e: physics.check_stress(e, CRYSTAL, rtol=1e-6)),
        ("net force", lambda e: physics.check_net_force(e, MOLECULE, rtol=1e-10)),
        ("hard cutoff", lambda e: physics.check_cutoff(e, CUTOFF, DEFAULT_ELEMENTS, rtol=1e-6)),
        ("forgets second images", lambda e: physics.check_supercell(e, CRYSTAL, rtol=1e-10)),
        ("size matters", lambda e: physics.check_supercell(e, DISORDERED, rtol=1e-10)),
        ("forgets periodicity", lambda e: physics.check_cell_choice(e, DISORDERED, rtol=1e-10)),
        ("size matters", lambda e: physics.check_isolated_atoms(e, ["O"], rtol=1e-10)),
        ("attracts", lambda e: physics.check_repulsion(e, [("O", "H")], fractions=[0.3, 0.4])),
        ("ignores charge", lambda e: physics.check_charge_and_spin(e, MOLECULE)),
        ("nan when overlapping", lambda e: physics.check_overlap(e, ["O"])),
        ("shares", lambda e: physics.check_precision(toy(), lambda s: e([s[0], *s])[1:], [MOLECULE], rtol=1e-6)),
    ],
)
def test_a_fault_is_noticed(fault, check):
    check(toy())
    with pytest.raises(AssertionError):
        check(toy(fault))


def test_a_dead_potential_is_noticed():
    def dead(structures):
        return [Result(energy=0.0, forces=np.zeros((len(atoms), 3))) for atoms in structures]

    with pytest.raises(AssertionError, match="next to zero"):
        physics.check_alive(dead, MOLECULE)
    physics.check_alive(dead, isolated_atom())


def test_the_samples_are_what_they_claim():
    assert not MOLECULE.pbc.any() and CRYSTAL.pbc.all()
    assert sorted(int(atoms.pbc.sum()) for atoms in SAMPLES.values()) == [0, 0, 1, 2, 3, 3]
    assert CRYSTAL.cell.lengths().max() < CUTOFF
    for atoms in SAMPLES.values():
        edges, shift = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
        vectors = atoms.positions[edges[0]] + shift @ atoms.cell.array - atoms.positions[edges[1]]
        assert np.linalg.norm(vectors, axis=1).min(initial=9.0) > 0.8
        assert len(atoms) == 1 or set(atoms.symbols) >= {"O", "H"}
