"""Plans: the same from the same seed, every element covered, every structure sound."""

from collections import Counter

import numpy as np
import pytest

from lam.corpus.coverage import Coverage
from lam.corpus.elements import LANTHANIDES, MAX_Z
from lam.corpus.plan import DYNAMICS, FINITE, PERIODIC, build_family, counts, select_families, shares_of
from lam.corpus.sample import MIN_CONTACT, closest_contact, fingerprint
from lam.data.structure import Structure
from lam.errors import LamError
from lam.label.periodic import SAFE_WIDTH, refuse_small_cell, widths

TOTAL = 160


@pytest.fixture(scope="module")
def built():
    """Return the families of a small plan, and what they cover."""
    coverage, wanted = Coverage(), counts(TOTAL, shares_of(FINITE))
    return [build_family(family, wanted[family.name], 3, coverage) for family in FINITE], coverage


@pytest.fixture(scope="module")
def frames(built):
    return [atoms for family in built[0] for atoms in family.frames]


def test_numbers_add_up_and_scale():
    shares = shares_of(FINITE)
    assert sum(shares.values()) == pytest.approx(1.0)
    for total in (20, 100, 12345):
        parts = counts(total, shares)
        assert sum(parts.values()) == total and min(parts.values()) >= 1
    assert counts(100000, shares)["clusters"] == pytest.approx(100000 * shares["clusters"], abs=1)
    with pytest.raises(LamError, match="families"):
        counts(5, shares)


def test_unknown_family_is_named():
    with pytest.raises(LamError, match="clusters"):
        select_families(False, ["cluster"])


@pytest.mark.parametrize("family", [f for f in FINITE if f.name != "liquids"], ids=lambda f: f.name)
def test_same_seed_same_structures(family):
    first, second, other = (build_family(family, 4, seed, Coverage()).fingerprint for seed in (5, 5, 6))
    assert first == second != other


def test_a_smaller_plan_begins_like_a_larger_one():
    family = FINITE[0]
    few, more = (build_family(family, count, 0, Coverage()).frames for count in (3, 6))
    assert fingerprint(few) == fingerprint(more[:3])


def test_every_element_is_planned(built, frames):
    coverage = built[1]
    assert (coverage.elements[1:] >= 1).all()
    assert (
        len({tuple(pair) for atoms in frames for pair in _pairs(atoms.numbers)}) == coverage.to_dict()["pairs_covered"]
    )
    counted = Counter(int(z) for atoms in frames for z in set(atoms.numbers))
    assert all(counted[z] == coverage.elements[z] for z in range(1, MAX_Z + 1))


def _pairs(numbers):
    kinds, count = np.unique(numbers, return_counts=True)
    for i, a in enumerate(kinds):
        if count[i] > 1:
            yield a, a
        for b in kinds[i + 1 :]:
            yield a, b


def test_atoms_overlap_only_where_meant(frames):
    for atoms in frames:
        least = 0.5 if atoms.info["family"] in ("dimers", "trimers") else MIN_CONTACT
        assert closest_contact(atoms) > least, atoms.info


def test_charge_and_multiplicity_fit_the_electrons(frames):
    for atoms in frames:
        electrons = int(atoms.numbers.sum()) - atoms.info["total_charge"]
        if "spin_multiplicity" in atoms.info:
            assert (electrons + atoms.info["spin_multiplicity"]) % 2 == 1, atoms.info
        else:
            assert np.isin(atoms.numbers, LANTHANIDES).any()
    assert {-1, 0, 1} <= {atoms.info["total_charge"] for atoms in frames}
    assert any(atoms.info.get("spin_multiplicity", 1) >= 3 for atoms in frames)


def test_sizes_are_bounded_and_frames_are_structures(built):
    for family in built[0]:
        assert max(map(len, family.frames)) <= family.family.max_atoms
        for atoms in family.frames:
            structure = Structure.from_atoms(atoms)
            assert structure.group.startswith(family.family.name)
            assert structure.energy is None


def test_periodic_cells_of_the_finite_plan_need_no_k_points(frames):
    periodic = [atoms for atoms in frames if atoms.pbc.any()]
    assert periodic
    for atoms in periodic:
        assert widths(atoms.cell.array).min() >= SAFE_WIDTH
        refuse_small_cell(Structure.from_atoms(atoms), "gfn1")


def test_engines_exist():
    from lam.label.engines import ENGINES

    assert {family.engine for family in (*FINITE, *PERIODIC)} <= {info.name for info in ENGINES}
    assert {name.rpartition("-")[2] for name in DYNAMICS} == {family.engine for family in FINITE}


@pytest.mark.parametrize("family", PERIODIC, ids=lambda f: f.name)
def test_periodic_families(family):
    first, second = (build_family(family, 3, 2, Coverage()) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    for atoms in first.frames:
        assert atoms.pbc.all() and len(atoms) <= family.max_atoms
        assert "spin_multiplicity" not in atoms.info  # it would fix the moment of the cell
        assert closest_contact(atoms) > MIN_CONTACT
        if family.name == "surfaces":
            height = atoms.get_scaled_positions(wrap=False)[:, 2] * atoms.cell.lengths()[2]
            assert widths(atoms.cell.array)[2] - np.ptp(height) > 8.0
