"""FHI-aims: free energy, geometry before and after a step, stress, charge, steps that are left out."""

import numpy as np
import pytest
from recipe_tools import problems, structures

from lam.data.recipes import get
from lam.errors import LamWarning

RECIPE = get("fhi-aims")

HEADER = """\
          Invoking FHI-aims ...
  fixed_spin_moment 1.0
  | Number of atoms                   :        2
  Input geometry:
{cell}  | Atomic structure:
  |       Atom                x [A]            y [A]            z [A]
  |    1: Species O             0.00000000        0.00000000        0.12500000
  |    2: Species H             0.00000000        1.00000000        0.00000000

  The structure contains        2 atoms  and a total of         {electrons} electrons.
"""
CELL = """\
  | Unit cell:
  |        4.00000000        0.00000000        0.00000000
  |        0.00000000        4.00000000        0.00000000
  |        0.00000000        1.00000000        5.00000000
"""
NO_CELL = "  | No unit cell requested.\n"
SCF = """\
          Begin self-consistency loop: Initialization.
  | Electronic free energy        :         -0.111100000000000E+04 eV
  Self-consistency cycle {end}.
  +-------------------------------------------------------------------+
  |              Analytical stress tensor - Symmetrized               |
  |                  Cartesian components [eV/A**3]                   |
  +-------------------------------------------------------------------+
  |                x                y                z                |
  |                                                                   |
  |  x         0.01000000       0.00200000       0.00000000           |
  |  y         0.00200000      -0.02000000       0.00000000           |
  |  z         0.00000000       0.00000000       0.03000000           |
  |                                                                   |
  |  Pressure:      -0.00666667   [eV/A**3]                           |
  Energy and forces in a compact form:
  | Total energy uncorrected      :         -0.205000000000000E+04 eV
  | Total energy corrected        :         -0.205100000000000E+04 eV  <-- do not rely on this value
  | Electronic free energy        :         {energy} eV
  Total atomic forces (unitary forces cleaned) [eV/Ang]:
  |    1          0.500000000000000E+00          0.000000000000000E+00         -0.250000000000000E+00
  |    2         -0.500000000000000E+00          0.000000000000000E+00          0.250000000000000E+00

"""
ATOMS = """\
                         x [A]             y [A]             z [A]
            atom         0.00000000        0.00000000        {z}  O
{velocity}            atom         0.00000000        1.00000000        0.00000000  H
{velocity}
"""
VELOCITY = "        velocity         0.1 0.2 0.3\n"


def _write(tmp_path, *blocks, cell=NO_CELL, electrons="9.000"):
    path = tmp_path / "aims.out"
    path.write_text(HEADER.format(cell=cell, electrons=electrons) + "".join(blocks))
    return path


def _scf(energy, end="converged"):
    return SCF.format(energy=f"{energy:.15E}", end=end)


def _updated(z):
    return "  Updated atomic structure:\n" + ATOMS.format(z=f"{z:.8f}", velocity="")


def _used(z):
    text = "  Atomic structure (and velocities) as used in the preceding time step:\n"
    return text + ATOMS.format(z=f"{z:.8f}", velocity=VELOCITY)


def test_relaxation(tmp_path):
    path = _write(tmp_path, _scf(-2052.0), _updated(0.25), _scf(-2053.0), cell=CELL)
    first, second = structures(RECIPE, path)
    assert (first.energy, second.energy) == (-2052, -2053)  # the free energy of the compact form
    np.testing.assert_array_equal(first.numbers, [8, 1])
    assert (first.positions[0, 2], second.positions[0, 2]) == (0.125, 0.25)
    np.testing.assert_array_equal(first.cell[2], [0, 1, 5])
    np.testing.assert_array_equal(first.forces[0], [0.5, 0, -0.25])
    # Pressure is minus a third of the trace: tensile positive, as here.
    np.testing.assert_allclose(first.stress, [[0.01, 0.002, 0], [0.002, -0.02, 0], [0, 0, 0.03]])
    assert (first.total_charge, first.spin_multiplicity) == (0, 2)
    assert RECIPE.find(tmp_path) == [path]


def test_dynamics_says_the_geometry_afterwards(tmp_path):
    path = _write(tmp_path, _scf(-2052.0), _used(0.125), _scf(-2053.0), _used(0.5), _scf(-2054.0), electrons="10.000")
    found = structures(RECIPE, path)
    assert [(s.energy, s.positions[0, 2]) for s in found] == [(-2052, 0.125), (-2053, 0.5)]  # of the last, not known
    assert found[0].total_charge == -1 and not found[0].pbc.any() and found[0].stress is None


def test_unconverged_steps_are_left_out(tmp_path):
    path = _write(tmp_path, _scf(-2052.0), _updated(0.25), _scf(-2053.0, "not converged"))
    with pytest.warns(LamWarning, match="1 of 2 steps left out"):
        assert [s.energy for s in structures(RECIPE, path)] == [-2052]


def test_cut_off_and_bad(tmp_path):
    cut = _scf(-2053.0)
    path = _write(tmp_path, _scf(-2052.0), _updated(0.25), cut[: cut.index("  |    2         -0.5")])
    assert [s.energy for s in structures(RECIPE, path)] == [-2052]
    (message,) = problems(RECIPE, _write(tmp_path))
    assert "aims.out' holds no complete step" in message
    path = _write(tmp_path, _scf(-2052.0))
    path.write_text(path.read_text().replace("Species H", "Species Q"))
    (message,) = problems(RECIPE, path)
    assert "aims.out'" in message and "'Q'" in message
