"""Neighbour lists with a skin: exact at every step, and not searched again without need."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from lam.calculators.verlet import VerletList
from lam.data.neighbors import neighbor_list
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning
from lam.testing import sample_structures

CUTOFF = 3.5


def pairs_of(found) -> np.ndarray:
    """Return all edges as sorted rows: centre, neighbour, vector."""
    centers = np.repeat(np.arange(len(found.starts) - 1), np.diff(found.starts))
    rows = np.column_stack([centers, found.neighbors, found.vectors.round(9)])
    return rows[np.lexsort(rows.T[::-1])]


def assert_exact(found, atoms: Atoms) -> None:
    pairs, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    vectors = atoms.positions[pairs[0]] - atoms.positions[pairs[1]] + shifts @ atoms.cell.array
    rows = np.column_stack([pairs[1], pairs[0], vectors.round(9)])
    np.testing.assert_allclose(pairs_of(found), rows[np.lexsort(rows.T[::-1])], atol=3e-9)


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.mark.parametrize("kind", ["molecule", "slab", "chain", "disordered", "skewed crystal", "isolated atom"])
def test_exact_while_atoms_move(kind):
    atoms, random = sample_structures()[kind], np.random.default_rng(0)
    verlet = VerletList(CUTOFF, np.float64)
    for _ in range(30):
        assert_exact(verlet(Structure.from_atoms(atoms)), atoms)
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
    assert 1 < verlet.rebuilds < 25 or kind == "isolated atom"


def test_searched_again_when_an_atom_has_moved_by_half_the_skin():
    atoms = crystal()
    verlet = VerletList(CUTOFF, np.float64, skin=0.5)
    for total, rebuilds in ((0.0, 1), (0.24, 1), (0.26, 2), (0.26 + 0.24, 2), (0.26 + 0.26, 3), (0.26, 4)):
        moved = atoms.copy()
        moved.positions[3, 1] += total
        assert_exact(verlet(Structure.from_atoms(moved)), moved)
        assert verlet.rebuilds == rebuilds


def test_two_atoms_that_approach_from_beyond_the_skin():
    verlet = VerletList(CUTOFF, np.float64, skin=0.5)
    for distance in np.arange(CUTOFF + 1.0, CUTOFF - 0.6, -0.1):
        atoms = Atoms("Cu2", positions=[[0, 0, 0], [distance, 0, 0]])
        assert len(verlet(Structure.from_atoms(atoms)).neighbors) == (2 if distance < CUTOFF else 0)


def test_put_back_to_the_cell_is_no_move():
    atoms = crystal()
    verlet = VerletList(CUTOFF, np.float64)
    verlet(Structure.from_atoms(atoms))
    for step in range(40):
        atoms.positions += [0.005, 0.0, 0.002]
        moved = atoms.copy()
        if step % 2:
            moved.wrap()
        if step % 5 == 4:
            moved.positions[::3] += 7 * moved.cell.array[1]  # images far away
        assert_exact(verlet(Structure.from_atoms(moved)), moved)
    assert verlet.rebuilds == 1
    atoms.positions[:] += 300.0 * atoms.cell.array[0]
    assert_exact(verlet(Structure.from_atoms(atoms)), atoms)


def test_a_slab_is_not_followed_along_its_normal():
    atoms = sample_structures()["slab"]
    atoms.cell[2] = [0, 0, 8.0]
    verlet = VerletList(CUTOFF, np.float64)
    verlet(Structure.from_atoms(atoms))
    atoms.positions[0, 2] += 8.0
    assert_exact(verlet(Structure.from_atoms(atoms)), atoms)
    assert verlet.rebuilds == 2


def test_searched_again_for_another_cell_periodicity_or_number_of_atoms():
    atoms = crystal()
    verlet = VerletList(CUTOFF, np.float64)
    strained = atoms.copy()
    strained.set_cell(atoms.cell * 1.001, scale_atoms=True)
    slab = atoms.copy()
    slab.pbc = [True, True, False]
    fewer = atoms[:-1]
    for rebuilds, frame in enumerate((atoms, strained, slab, fewer, atoms), start=1):
        assert_exact(verlet(Structure.from_atoms(frame)), frame)
        assert_exact(verlet(Structure.from_atoms(frame)), frame)
        assert verlet.rebuilds == rebuilds


def test_positions_changed_in_place_are_noticed():
    atoms = crystal()
    verlet = VerletList(CUTOFF, np.float64)
    structure = Structure.from_atoms(atoms)
    verlet(structure)
    structure.positions[0] += 1.0
    atoms.positions[0] = structure.positions[0]
    assert_exact(verlet(structure), atoms)
    assert verlet.rebuilds == 2


def test_no_skin():
    atoms = crystal()
    verlet = VerletList(CUTOFF, np.float32, skin=0.0)
    found = verlet(Structure.from_atoms(atoms))
    assert found.vectors.dtype == np.float32
    pairs, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    assert np.array_equal(found.neighbors, pairs[0])


def test_large_coordinates_keep_their_precision():
    atoms = crystal()
    far = atoms.copy()
    far.positions += 1000 * atoms.cell.array[0] + 500 * atoms.cell.array[2]
    want, got = (VerletList(CUTOFF, np.float64)(Structure.from_atoms(frame)) for frame in (atoms, far))
    np.testing.assert_allclose(pairs_of(got), pairs_of(want), atol=2e-9)


def test_atoms_that_come_to_overlap_warn():
    atoms = molecule("H2O")
    verlet = VerletList(CUTOFF, np.float64, skin=4.0)
    verlet(Structure.from_atoms(atoms))
    atoms.positions[1] = atoms.positions[0] + [0.1, 0, 0]
    with pytest.warns(LamWarning, match=r"0.10 Angstrom apart"):
        verlet(Structure.from_atoms(atoms))
    assert verlet.rebuilds == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_position_that_becomes_nan_in_place_is_an_error(value, periodic):
    atoms = crystal()
    atoms.pbc = periodic
    structure = Structure.from_atoms(atoms, source="copper.xyz#4")
    verlet = VerletList(CUTOFF, np.float64)
    verlet(structure)
    before = structure.positions[3, 1]
    structure.positions[3, 1] = value
    for _ in range(2):
        with pytest.raises(LamError, match=r"copper.xyz#4.*NaN or infinite"):
            verlet(structure)
    structure.positions[3, 1] = before
    assert_exact(verlet(structure), atoms)


@pytest.mark.parametrize("kind", ["slab", "chain"])
def test_a_far_atom_beside_a_slab_or_a_chain(kind):
    atoms = sample_structures()[kind]
    normal = np.linalg.svd(atoms.cell.array[atoms.pbc])[2][-1]
    atoms += Atoms("H2", positions=[atoms.positions[0] + 8e6 * normal, atoms.positions[0] + (8e6 + 1) * normal])
    verlet = VerletList(CUTOFF, np.float64)
    for _ in range(3):
        found = verlet(Structure.from_atoms(atoms))
        count = len(atoms)
        near = [j for j in found.neighbors[found.starts[count - 2] :] if j < count - 2]
        assert not near and count - 1 in found.neighbors[found.starts[count - 2] :]
        assert_exact(found, atoms)
        atoms.positions[-1] += 0.2 * normal
    assert verlet.rebuilds == 2
