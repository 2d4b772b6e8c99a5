"""Checks of what every potential must obey. Each asserts, and says by how much it failed.

All take an :data:`~lam.testing.evaluation.Evaluate`, so that they work for any potential, and ``rtol``,
relative to the largest force (see :func:`~lam.testing.evaluation.compare`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from scipy.spatial.transform import Rotation

from lam.errors import LamWarning
from lam.testing.evaluation import Evaluate, Result, compare, force_scale
from lam.testing.structures import dimer

# Fourth-order central differences: f' = sum(weight * f(x + step)) / h
_STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


def check_alive(evaluate: Evaluate, atoms: Atoms) -> None:
    """The forces are finite and not all zero: otherwise every symmetry below would hold for nothing."""
    result = evaluate([atoms])[0]
    assert np.isfinite(result.energy) and np.isfinite(result.forces).all(), "energy or forces are not finite"
    if len(atoms) > 1:
        assert force_scale([result]) > 1e-4, f"forces are next to zero ({force_scale([result]):.3g} eV/A)"
    if atoms.pbc.all():
        assert result.stress is not None and np.abs(result.stress).max() > 1e-5, "stress is missing or zero"


def check_rotation(evaluate: Evaluate, atoms: Atoms, *, rtol: float, seed: int = 0, improper: bool = False) -> None:
    """Energy is invariant, forces and stress turn with the structure; ``improper`` adds an inversion."""
    matrix = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * (-1 if improper else 1)
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ matrix.T)
    moved.positions = atoms.positions @ matrix.T
    got, want = evaluate([moved])[0], evaluate([atoms])[0]
    stress = None if got.stress is None else matrix.T @ got.stress @ matrix
    back = Result(energy=got.energy, forces=got.forces @ matrix, stress=stress)
    compare(back, want, rtol=rtol, what="inversion and rotation" if improper else "rotation")


def check_translation(evaluate: Evaluate, atoms: Atoms, *, rtol: float) -> None:
    """Nothing depends on where the structure is."""
    moved = atoms.copy()
    moved.positions += [1.7, -2.3, 0.9]
    compare(evaluate([moved])[0], evaluate([atoms])[0], rtol=rtol, what="translation")


def check_permutation(evaluate: Evaluate, atoms: Atoms, *, rtol: float, seed: int = 0) -> None:
    """Nothing depends on the order of the atoms."""
    order = np.random.default_rng(seed).permutation(len(atoms))
    got, want = evaluate([atoms[order]])[0], evaluate([atoms])[0]
    unsorted = np.empty_like(got.forces)
    unsorted[order] = got.forces
    compare(Result(energy=got.energy, forces=unsorted, stress=got.stress), want, rtol=rtol, what="permutation")


def check_batching(evaluate: Evaluate, structures: Sequence[Atoms], *, rtol: float) -> None:
    """A batch gives what its structures give one by one, and no structure feels another."""
    together = evaluate(structures)
    for number, atoms in enumerate(structures):
        compare(together[number], evaluate([atoms])[0], rtol=rtol, what=f"structure {number} of the batch")
    moved = [atoms.copy() for atoms in structures]
    moved[0].positions += np.random.default_rng(0).normal(scale=0.1, size=moved[0].positions.shape)
    after = evaluate(moved)
    assert len(moved[0]) == 1 or np.abs(after[0].forces - together[0].forces).max() > 0.0, "moving atoms has no effect"
    for number in range(1, len(structures)):
        compare(after[number], together[number], rtol=rtol, what=f"structure {number} after another moved")


def check_net_force(evaluate: Evaluate, atoms: Atoms, *, rtol: float) -> None:
    """Forces sum to zero; so do the torques where nothing is periodic."""
    forces = evaluate([atoms])[0].forces
    scale = max(float(np.abs(forces).max()), 1e-4) * len(atoms)
    net = float(np.abs(forces.sum(0)).max())
    assert net <= rtol * scale, f"net force {net:.3g} eV/A, allowed {rtol * scale:.3g}"
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.positions.mean(0)
        bound = rtol * scale * max(float(np.abs(arms).max()), 1.0)
        torque = float(np.abs(np.cross(arms, forces).sum(0)).max())
        assert torque <= bound, f"net torque {torque:.3g} eV, allowed {bound:.3g}"


def check_forces(evaluate: Evaluate, atoms: Atoms, *, rtol: float, step: float = 2e-3, seed: int = 0) -> None:
    """Forces are minus the gradient of the energy, by finite differences along random directions.

    Args:
        evaluate: the potential, in double precision.
        atoms: the structure.
        rtol: bound of the error relative to the largest force.
        step: A.
        seed: of the directions.
    """
    random = np.random.default_rng(seed)
    directions = [random.normal(size=(len(atoms), 3)) for _ in range(3)]
    for _ in range(3):  # and single components, where an error of one atom cannot hide
        single = np.zeros((len(atoms), 3))
        single[random.integers(len(atoms)), random.integers(3)] = 1.0
        directions.append(single)
    forces = evaluate([atoms])[0].forces
    for direction in directions:
        direction = direction / np.linalg.norm(direction)
        moved = []
        for multiple, _ in _STENCIL:
            moved.append(atoms.copy())
            moved[-1].positions += multiple * step * direction
        slope = sum(w * result.energy for (_, w), result in zip(_STENCIL, evaluate(moved), strict=True)) / step
        error = abs(slope + float((forces * direction).sum()))
        bound = rtol * max(float(np.abs(forces).max()), 1e-4)
        assert error <= bound, f"force along a direction is wrong by {error:.3g} eV/A, allowed {bound:.3g}"


def check_stress(evaluate: Evaluate, atoms: Atoms, *, rtol: float, step: float = 5e-4) -> None:
    """Stress is (1/V) dE/d(strain), by finite differences of all six strains."""
    stress = evaluate([atoms])[0].stress
    assert stress is not None, "there is no stress for a structure periodic in three directions"
    numeric = np.zeros((3, 3))
    for i in range(3):
        for j in range(i, 3):
            moved = [_strained(atoms, i, j, multiple * step) for multiple, _ in _STENCIL]
            slope = sum(w * result.energy for (_, w), result in zip(_STENCIL, evaluate(moved), strict=True)) / step
            numeric[i, j] = numeric[j, i] = slope / atoms.get_volume()
    error, bound = float(np.abs(numeric - stress).max()), rtol * float(np.abs(stress).max())
    assert error <= bound, f"stress is wrong by {error:.3g} eV/A^3, allowed {bound:.3g}"


def check_cutoff(
    evaluate: Evaluate, cutoff: float, elements: Sequence[str], *, rtol: float, step: float = 1e-4
) -> None:
    """Energy and forces are continuous where an atom crosses the cutoff: the limits from both sides agree."""
    for outer in elements:
        centre = dimer(elements[0], elements[-1], 1.1)
        frames = []
        for distance in (cutoff - 2 * step, cutoff - step, cutoff + step, cutoff + 2 * step):
            # Far from the second atom, so that one pair crosses at a time.
            frames.append(centre + Atoms(outer, positions=[-distance * np.array([0.36, -0.48, 0.8])]))
        inside_2, inside_1, outside_1, outside_2 = evaluate(frames)
        scale = force_scale([inside_1])
        for name in ("energy", "forces"):
            inner = 2 * getattr(inside_1, name) - getattr(inside_2, name)
            outer_limit = 2 * getattr(outside_1, name) - getattr(outside_2, name)
            jump = float(np.abs(inner - outer_limit).max())
            bound = rtol * scale
            assert jump <= bound, f"{name} jump by {jump:.3g} at the cutoff for {outer}, allowed {bound:.3g}"


def check_supercell(evaluate: Evaluate, atoms: Atoms, *, rtol: float) -> None:
    """A repeated cell has the same energy per atom, forces and stress."""
    repeats = tuple(2 if periodic else 1 for periodic in atoms.pbc)
    copies = int(np.prod(repeats))
    want, got = evaluate([atoms])[0], evaluate([atoms.repeat(repeats)])[0]
    tiled = Result(energy=copies * want.energy, forces=np.tile(want.forces, (copies, 1)), stress=want.stress)
    compare(got, tiled, rtol=rtol, what=f"supercell {repeats}")


def check_cell_choice(evaluate: Evaluate, atoms: Atoms, *, rtol: float, seed: int = 0) -> None:
    """Nothing depends on which lattice vectors or images of the atoms describe a periodic structure."""
    want = evaluate([atoms])[0]
    images = atoms.copy()
    jumps = np.random.default_rng(seed).integers(-2, 3, size=(len(atoms), 3)) * atoms.pbc
    images.positions += jumps @ atoms.cell.array
    compare(evaluate([images])[0], want, rtol=rtol, what="other images of the atoms")
    if atoms.pbc.all():
        skewed = atoms.copy()
        skewed.set_cell(np.array([[1, 0, 0], [1, 1, 0], [-2, 1, 1]]) @ atoms.cell.array)
        compare(evaluate([skewed])[0], want, rtol=rtol, what="other lattice vectors")


def check_isolated_atoms(evaluate: Evaluate, elements: Sequence[str], *, rtol: float) -> None:
    """Atoms out of reach of each other: no force, the sum of their energies, with or without a cell."""
    for element in elements:
        alone = Atoms(element, positions=[[0.1, 0.2, 0.3]])
        boxed = Atoms(element, cell=[60.0, 61.0, 62.0], pbc=True)
        pair = Atoms([element, element], positions=[[0, 0, 0], [50.0, 0, 0]])
        single, periodic, both = (evaluate([atoms])[0] for atoms in (alone, boxed, pair))
        for result in (single, periodic, both):
            assert np.isfinite(result.energy), f"energy of isolated {element} is not finite"
            assert not result.forces.any(), f"isolated {element} feels a force"
        assert periodic.stress is None or not periodic.stress.any(), f"isolated {element} in a cell has a stress"
        bound = rtol * max(abs(single.energy), 1.0)
        assert abs(periodic.energy - single.energy) <= bound, f"energy of isolated {element} depends on the cell"
        assert abs(both.energy - 2 * single.energy) <= bound, f"energy of two far {element} atoms is not additive"


def check_repulsion(evaluate: Evaluate, pairs: Sequence[tuple[str, str]], *, fractions: Sequence[float]) -> None:
    """Every dimer repels at ``fractions`` of the sum of its covalent radii, and more so the closer it is."""
    fractions = sorted(fractions)
    for start in range(0, len(pairs), 200):
        part = pairs[start : start + 200]
        lengths = [[f * _bond(first, second) for f in fractions] for first, second in part]
        frames = [dimer(*pair, d) for pair, distances in zip(part, lengths, strict=True) for d in distances]
        results = iter(evaluate(frames))
        for pair, distances in zip(part, lengths, strict=True):
            found = [next(results) for _ in distances]
            pushes = [float(result.forces[1] @ [0.36, -0.48, 0.8]) for result in found]
            energies = [result.energy for result in found]
            assert min(pushes) > 0, f"{pair} attract at {distances[int(np.argmin(pushes))]:.2f} A"
            assert energies == sorted(energies, reverse=True), f"energy of {pair} falls as they approach"


def check_overlap(evaluate: Evaluate, elements: Sequence[str]) -> None:
    """Atoms on top of each other, even at the same place, give finite energies and forces."""
    for distance in (0.0, 1e-6, 1e-2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LamWarning)  # that they overlap is what is tested
            result = evaluate([dimer(elements[0], elements[-1], distance)])[0]
        assert np.isfinite(result.energy), f"energy is not finite for atoms {distance} A apart"
        assert np.isfinite(result.forces).all(), f"forces are not finite for atoms {distance} A apart"


def check_charge_and_spin(evaluate: Evaluate, atoms: Atoms, *, sensitive: bool = True) -> None:
    """Total charge and spin are read in all dialects, default to a neutral singlet, and count if ``sensitive``."""

    def energy(**info: float) -> float:
        frame = atoms.copy()
        frame.info.update(info)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LamWarning)  # states outside of the training data
            return evaluate([frame])[0].energy

    neutral = energy()
    assert energy(charge=0, spin=1) == neutral, "not stated is not the same as neutral singlet"
    cation = energy(charge=1, spin=2)
    assert np.isfinite(cation), "energy of a cation is not finite"
    assert energy(total_charge=1, spin_multiplicity=2) == cation, "total_charge/spin_multiplicity are not read"
    assert energy(total_charge=1, total_spin=2) == cation, "total_charge/total_spin are not read"
    if sensitive:
        assert energy(charge=1) != neutral, "the total charge has no effect"
        assert energy(spin=3) != neutral, "the spin multiplicity has no effect"


def check_precision(single: Evaluate, double: Evaluate, structures: Sequence[Atoms], *, rtol: float) -> None:
    """Single and double precision agree."""
    for got, want in zip(single(structures), double(structures), strict=True):
        compare(got, want, rtol=rtol, what="float32 against float64")


def _strained(atoms: Atoms, i: int, j: int, size: float) -> Atoms:
    strain = np.eye(3)
    strain[i, j] += size / 2
    strain[j, i] += size / 2
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ strain, scale_atoms=False)
    moved.positions = atoms.positions @ strain
    return moved


def _bond(first: str, second: str) -> float:
    return float(covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]])
