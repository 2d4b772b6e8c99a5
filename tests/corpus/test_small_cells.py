"""Small periodic cells: elements in their own crystals, deformed so that symmetry is left, within a size."""

import numpy as np
import pytest
from ase.build import bulk
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list

from lam.corpus.context import stretched
from lam.corpus.coverage import Coverage
from lam.corpus.elemental import known_crystal
from lam.corpus.pipeline import Corpus, make_structures, read_frames
from lam.corpus.plan import PERIODIC, build_family, select_families
from lam.corpus.prototypes import PROTOTYPES, build
from lam.errors import LamError
from lam.label.engine_gpaw import WITHOUT_SETUP

NEIGHBOURS = {13: (12, 2.86), 26: (8, 2.48), 32: (4, 2.45), 34: (2, 2.37), 52: (2, 2.84), 83: (3, 3.07), 7: (1, 1.10)}
"""Number and distance of the nearest neighbours in the crystals of elements, measured."""


@pytest.fixture
def random():
    return np.random.default_rng(1)


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    corpus = Corpus(tmp_path_factory.mktemp("cells"), 150, periodic=True, max_atoms=3, names=("elements", "crystals"))
    plan = make_structures(corpus, lambda text: None)
    return corpus, plan, {family.name: read_frames(corpus.file(family.name)) for family in corpus.families}


@pytest.mark.parametrize("z", NEIGHBOURS, ids=lambda z: chemical_symbols[z])
def test_crystals_of_elements_are_the_known_ones(z, random):
    crystal = known_crystal(z, random)
    count, length = NEIGHBOURS[z]
    first, distance = neighbor_list("id", crystal, 1.06 * length)
    assert np.bincount(first).tolist() == [count] * len(crystal)
    assert distance == pytest.approx(length, rel=0.02)
    assert not crystal.get_initial_magnetic_moments().any()


def test_crystals_that_are_not_known_are_not_made_up(random):
    assert known_crystal(61, random) is None and known_crystal(25, random) is None  # Pm; Mn has 58 atoms


def test_every_element_of_the_engine_is_planned_and_no_other(crystals):
    _, plan, frames = crystals
    elements = {int(z) for atoms in frames["elements"] for z in atoms.numbers}
    everything = {int(z) for members in frames.values() for atoms in members for z in atoms.numbers}
    assert everything.isdisjoint(WITHOUT_SETUP) and plan["without"] == sorted(WITHOUT_SETUP)
    # Chance decides a few of the choices, so that the last elements may wait for the next ones.
    assert len(elements) >= min(len(frames["elements"]), 83) - 8 and len(everything) >= 80
    assert all(len(set(atoms.numbers)) == 1 for atoms in frames["elements"])
    assert all(len(set(atoms.numbers)) > 1 for atoms in frames["crystals"])


def test_cells_are_as_small_as_asked_for(crystals):
    _, _, frames = crystals
    assert max(len(atoms) for members in frames.values() for atoms in members) <= 3


def test_families_that_need_more_atoms_are_left_out():
    names = [family.name for family in select_families(True, max_atoms=3)]
    assert names == ["elements", "crystals"]
    assert [f.name for f in select_families(True, max_atoms=8)] == [family.name for family in PERIODIC]
    with pytest.raises(LamError, match="at most 3 atoms"):
        select_families(True, ["disordered"], max_atoms=3)


def test_another_choice_is_another_plan(crystals):
    corpus, _, _ = crystals
    with pytest.raises(LamError, match="new folder"):
        make_structures(Corpus(corpus.folder, 150, periodic=True, max_atoms=3), lambda text: None)


def test_stretching_keeps_an_axis(random):
    crystal = bulk("NaCl", "rocksalt", a=5.64)
    for _ in range(10):
        atoms = stretched(crystal, 0.05, 0.1, random, volume=1.1)
        deformation = np.linalg.solve(crystal.cell.array, atoms.cell.array)
        stretches = np.sort(np.linalg.eigvalsh(deformation))
        gaps = np.diff(stretches)
        assert min(gaps) < 1e-9 < max(gaps)  # two equal directions, and the axis
        bond = atoms.get_distance(0, 1, mic=True, vector=True)
        assert np.isfinite(bond).all() and len(atoms) == 2
    single = stretched(bulk("Al"), 0.05, 0.1, random)
    assert np.allclose(single.positions, 0)  # moving it would move the lattice


def test_hexagonal_lattices_are_stretched_along_c(random):
    for _ in range(5):
        atoms = stretched(bulk("Mg"), 0.05, 0.1, random)
        lengths = atoms.cell.lengths()
        assert lengths[0] == pytest.approx(lengths[1]) and atoms.cell.angles()[2] == pytest.approx(120)
        assert atoms.positions[0, :2] == pytest.approx([0, 0], abs=1e-9)


def test_bonds_to_many_neighbours_are_longer_than_single_ones():
    known = {prototype.name: prototype for prototype in PROTOTYPES}

    def contact(name, z):
        return neighbor_list("d", build(known[name], [z]), 6.0).min()

    assert contact("bcc", 9) > 1.3 * 1.14  # fluorine forms one bond, not eight
    assert contact("diamond", 14) == pytest.approx(2 * 1.11, rel=1e-3)  # silicon has four to share
    assert contact("fcc", 29) == pytest.approx(2.55, abs=0.02)  # metals are not touched


def test_what_is_left_out_is_never_chosen(random):
    coverage = Coverage(without=[3])
    assert {coverage.choose([[3, 4]], random)[0] for _ in range(50)} == {4}
    assert build_family(PERIODIC[0], 3, 0, Coverage([1])).frames
