"""Cells for engines that know only the Gamma point: small ones are refused, others compared with larger ones."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from lam.data.structure import Structure
from lam.label.engines import Labels, Refused
from lam.label.periodic import (
    NotExtensive,
    check_extensivity,
    doubtful_directions,
    enlarged,
    family,
    refuse_small_cell,
    widths,
)


def argon(repeat=2, **state):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat(repeat)
    atoms.info.update(state)
    return Structure.from_atoms(atoms, source="argon.xyz#0")


def labels_by(energy_per_atom):
    """Return what labels structures with an energy per atom that depends on the cell, and no forces."""

    def calculate(structure):
        return Labels(energy_per_atom(structure) * len(structure), np.zeros((len(structure), 3)))

    return calculate


def test_widths_of_a_skewed_cell():
    cell = np.array([[4.0, 0, 0], [3.0, 3.0, 0], [0, 0, 7.0]])
    np.testing.assert_allclose(widths(cell), [4 / np.sqrt(2), 3, 7])
    assert widths(np.zeros((3, 3))).tolist() == [0, 0, 0]


def test_a_small_periodic_cell_is_refused_with_the_reason():
    with pytest.raises(Refused, match=r"argon.xyz#0: the cell of 4 atoms is only 5.3 A wide .*only the Gamma point"):
        refuse_small_cell(argon(1), "gfn1")
    refuse_small_cell(argon(2), "gfn1")
    flat = Structure.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True).repeat((3, 3, 1)))
    with pytest.raises(Refused, match="along lattice vector 3"):
        refuse_small_cell(flat, "gfn1")
    refuse_small_cell(Structure.from_atoms(Atoms("Ar")), "gfn1")


def test_slabs_need_vacuum():
    slab = fcc111("Cu", (4, 4, 2), vacuum=3.0)
    slab.pbc = (True, True, False)
    with pytest.raises(Refused, match=r"6.0 A of vacuum"):
        refuse_small_cell(Structure.from_atoms(slab), "gfn1")
    slab.center(vacuum=6.0, axis=2)
    refuse_small_cell(Structure.from_atoms(slab), "gfn1")
    slab.cell[2] = 0
    with pytest.raises(Refused, match=r"0.0 A of vacuum"):
        refuse_small_cell(Structure.from_atoms(slab), "gfn1")


def test_which_directions_are_doubtful():
    structure = Structure.from_atoms(bulk("Ar", "fcc", a=5.3, cubic=True).repeat((3, 2, 5)))
    assert doubtful_directions(structure, "auto") == [1, 0]
    assert doubtful_directions(structure, "always") == [1, 0, 2]
    assert doubtful_directions(structure, "never") == []
    assert doubtful_directions(Structure.from_atoms(Atoms("Ar")), "always") == []


def test_a_larger_cell_is_the_same_crystal():
    structure = argon(charge=1, spin=2)
    larger, factor = enlarged(structure, 1)
    assert factor == 2 and larger.volume == pytest.approx(2 * structure.volume)
    assert (larger.total_charge, larger.spin_multiplicity) == (2, 3)
    n = len(structure)
    np.testing.assert_allclose(larger.positions[n:] - larger.positions[:n], [structure.cell[1]] * n)

    slab = fcc111("Cu", (4, 4, 2), vacuum=6.0)
    slab.pbc = (True, True, False)
    higher, factor = enlarged(Structure.from_atoms(slab), 2)
    assert factor == 1 and len(higher) == len(slab)
    assert widths(higher.cell)[2] == pytest.approx(widths(np.array(slab.cell))[2] + 10)


@pytest.mark.parametrize(("slope", "extensive"), [(0.0, True), (1e-4, True), (1e-3, False)])
def test_the_check_compares_energies_per_atom(slope, extensive):
    calculate = labels_by(lambda structure: -1.0 + slope * (structure.volume / 1191 - 1) * 10)
    structure = argon()
    labels = calculate(structure)
    if extensive:
        found = check_extensivity(structure, labels, calculate)
        assert found.cells == 3 and found.energy == pytest.approx(slope * 10, abs=1e-4)
    else:
        with pytest.raises(NotExtensive, match=r"doubled along lattice vector 1.* 10.0 meV"):
            check_extensivity(structure, labels, calculate)
        assert check_extensivity(structure, labels, calculate, tolerance=0.02).cells == 3
        assert check_extensivity(structure, labels, calculate, mode="never") is None


def test_the_check_compares_forces():
    def calculate(structure):
        return Labels(0.0, np.full((len(structure), 3), 0.01 * len(structure)))

    structure = argon()
    with pytest.raises(NotExtensive, match=r"forces by 0.32 eV/A"):
        check_extensivity(structure, calculate(structure), calculate)


def test_families_are_frames_of_one_group_composition_and_cell():
    structure = argon(group="md")
    moved = argon(group="md")
    moved.positions[:] += 0.1
    assert family(structure) == family(moved)
    assert family(structure) != family(argon(group="other"))
    assert family(structure) != family(argon(3, group="md"))
    wide = bulk("Ar", "fcc", a=5.9, cubic=True).repeat(2)
    wide.info["group"] = "md"
    assert family(structure) != family(Structure.from_atoms(wide))
    assert family(Structure.from_atoms(Atoms("Ar"))) is None


def test_real_cells():
    """Helium is extensive in a cell of 12 A, and metallic hydrogen in one of 8 A is far from it."""
    pytest.importorskip("tblite.ase")
    from lam.label.engines import make_engine

    engine = make_engine("gfn1")
    helium = Structure.from_atoms(bulk("He", "sc", a=4.0).repeat(3))
    assert check_extensivity(helium, engine.calculate(helium), engine.calculate).energy < 0.005
    metal = Structure.from_atoms(bulk("H", "sc", a=2.7).repeat(3))
    refuse_small_cell(metal, "gfn1")
    with pytest.raises(NotExtensive):
        check_extensivity(metal, engine.calculate(metal), engine.calculate)
