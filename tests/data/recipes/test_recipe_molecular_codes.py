"""ORCA and Gaussian: energies that belong to the forces, signs, axes, charge, steps that are left out."""

import numpy as np
import pytest
from recipe_tools import BOHR, HARTREE, problems, structures

from lam.data.recipes import get
from lam.errors import LamWarning

ORCA = """
                                 *****************
                                 * O   R   C   A *
                                 *****************
---------------------------------
CARTESIAN COORDINATES (ANGSTROEM)
---------------------------------
  O      0.000000    0.000000    0.125000
  H      0.000000    0.750000   -0.500000

----------------------------
CARTESIAN COORDINATES (A.U.)
----------------------------
  NO LB      ZA    FRAG     MASS         X           Y           Z
   0 O     8.0000    0    15.999    0.000000    0.000000    0.236216
   1 H     1.0000    0     1.008    0.000000    1.417295   -0.944863

 Total Charge           Charge          ....   -1
 Multiplicity           Mult            ....    1
Total Energy       :          -75.40000000 Eh           -2051.74 eV
Dispersion correction           -0.100000000
{problem}
-------------------------   --------------------
FINAL SINGLE POINT ENERGY       -75.500000000000{note}
-------------------------   --------------------

------------------
CARTESIAN GRADIENT
------------------

   1   O   :    0.125000000    0.000000000   -0.250000000
   2   H   :   -0.125000000    0.000000000    0.250000000

Difference to translation invariance:
           :   -0.0000000000    0.0000000000   -0.0000000000
"""
ORCA_LAST = """
---------------------------------
CARTESIAN COORDINATES (ANGSTROEM)
---------------------------------
  O      0.000000    0.000000    0.250000
  H      0.000000    0.750000   -0.500000

-------------------------   --------------------
FINAL SINGLE POINT ENERGY       -75.750000000000
-------------------------   --------------------
"""


def _write(tmp_path, text, name="job.out"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_orca_values(tmp_path):
    path = _write(tmp_path, ORCA.format(problem="", note="") + ORCA_LAST)
    first, last = structures(get("orca"), path)
    assert first.energy == pytest.approx(-75.5 * HARTREE, rel=1e-7)  # with the dispersion correction
    np.testing.assert_array_equal(first.numbers, [8, 1])
    np.testing.assert_array_equal(first.positions[0], [0, 0, 0.125])
    np.testing.assert_allclose(first.forces[0], np.array([-0.125, 0, 0.25]) * HARTREE / BOHR, rtol=1e-6)
    assert (first.total_charge, first.spin_multiplicity) == (-1, 1)
    assert not first.pbc.any()
    assert last.energy == pytest.approx(-75.75 * HARTREE, rel=1e-7) and last.forces is None
    assert last.total_charge == -1
    assert get("orca").find(tmp_path) == [path]
    _write(tmp_path, "something else", "other.out")
    assert get("orca").find(tmp_path) == [path]


@pytest.mark.parametrize(
    ("problem", "note"),
    [("   SCF NOT CONVERGED AFTER 125 CYCLES", ""), ("", " (Wavefunction not fully converged!)")],
)
def test_orca_unconverged(tmp_path, problem, note):
    path = _write(tmp_path, ORCA.format(problem=problem, note=note) + ORCA_LAST)
    with pytest.warns(LamWarning, match="1 of 2 steps left out"):
        (only,) = structures(get("orca"), path)
    assert only.energy == pytest.approx(-75.75 * HARTREE)


def test_orca_bad_input(tmp_path):
    text = ORCA.format(problem="", note="")
    (message,) = problems(get("orca"), _write(tmp_path, text[: text.index("FINAL")]))
    assert "job.out' holds no geometry with an energy" in message
    (message,) = problems(get("orca"), _write(tmp_path, text[: text.index("   2   H   :")]))
    assert "no geometry" in message
    (message,) = problems(get("orca"), _write(tmp_path, text.replace("  H      0.0", "  DA     0.0")))
    assert "job.out'" in message and "is no atom" in message


ORIENTATION = """\
                          {name}:
 ---------------------------------------------------------------------
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
 ---------------------------------------------------------------------
      1          8           0        {x}    0.000000    0.125000
      2          1           0        0.000000    0.750000   -0.500000
 ---------------------------------------------------------------------
"""
FORCES = """\
 ***** Axes restored to original set *****
 -------------------------------------------------------------------
 Center     Atomic                   Forces (Hartrees/Bohr)
 Number     Number              X              Y              Z
 -------------------------------------------------------------------
      1        8           0.125000000    0.000000000   -0.250000000
      2        1          -0.125000000    0.000000000    0.250000000
 -------------------------------------------------------------------
 Cartesian Forces:  Max     0.250000000 RMS     0.100000000
"""
INPUT = ORIENTATION.format(name="Input orientation", x="0.000000")
STANDARD = ORIENTATION.format(name="Standard orientation", x="9.000000")
START = " Entering Gaussian System, Link 0=g16\n #p b3lyp/6-31g* force{route}\n Charge =  1 Multiplicity = 2\n"
DONE = " SCF Done:  E(UB3LYP) =  -75.5000000000     A.U. after    9 cycles\n"


def test_gaussian_values(tmp_path):
    text = START.format(route="") + INPUT + STANDARD + DONE + FORCES + INPUT + STANDARD + DONE.replace("75.5", "75.7")
    first, second = structures(get("gaussian"), _write(tmp_path, text, "job.log"))
    assert first.energy == pytest.approx(-75.5 * HARTREE, rel=1e-7)
    np.testing.assert_array_equal(first.numbers, [8, 1])
    np.testing.assert_array_equal(first.positions[0], [0, 0, 0.125])  # not those of the standard orientation
    np.testing.assert_allclose(first.forces[0], np.array([0.125, 0, -0.25]) * HARTREE / BOHR, rtol=1e-6)
    assert (first.total_charge, first.spin_multiplicity) == (1, 2)
    assert second.energy == pytest.approx(-75.7 * HARTREE, rel=1e-7) and second.forces is None


def test_gaussian_forces_in_other_axes_are_left_out(tmp_path):
    text = START.format(route="") + STANDARD + DONE + FORCES
    (one,) = structures(get("gaussian"), _write(tmp_path, text, "job.log"))
    assert one.forces is None and one.energy is not None
    text = START.format(route=" NoSymm") + STANDARD + DONE + FORCES
    (one,) = structures(get("gaussian"), _write(tmp_path, text, "job.log"))
    assert one.forces is not None


def test_gaussian_takes_the_coordinates_of_the_input(tmp_path):
    echo = " O                     0.         -0.75      0.125\n H                     0.          0.75     -0.5\n\n"
    text = START.format(route="") + echo + STANDARD + DONE + FORCES
    moved = STANDARD.replace("9.000000", "8.000000") + DONE + FORCES  # a later geometry is not echoed
    first, second = structures(get("gaussian"), _write(tmp_path, text + moved, "job.log"))
    np.testing.assert_array_equal(first.positions, [[0, -0.75, 0.125], [0, 0.75, -0.5]])
    np.testing.assert_allclose(first.forces[0], np.array([0.125, 0, -0.25]) * HARTREE / BOHR, rtol=1e-6)
    assert second.positions[0, 0] == 8 and second.forces is None
    commas = " O,0,0.,-0.75,0.125\n H,0,0.,0.75,-0.5\n Recover connectivity data from disk.\n"
    text = START.format(route="") + commas + STANDARD + DONE + FORCES
    (one,) = structures(get("gaussian"), _write(tmp_path, text, "job.log"))
    np.testing.assert_array_equal(one.positions, first.positions)
    text = START.format(route="") + echo.replace("-0.75", "-0.85") + INPUT + STANDARD + DONE + FORCES
    assert structures(get("gaussian"), _write(tmp_path, text, "job.log"))[0].positions[0, 1] == 0  # as printed


@pytest.mark.parametrize(
    "line",
    [
        " E2 =    -0.2500000000D+00 EUMP2 =    -0.75750000000000D+02\n",
        " E2(B2PLYP) =    -0.1000000000D+00 E(B2PLYP) =    -0.75750000000000D+02\n",
        " CCSD(T)= -0.75750000000D+02\n",
    ],
)
def test_gaussian_energy_of_the_forces(tmp_path, line):
    text = START.format(route="") + INPUT + DONE + line + FORCES
    (one,) = structures(get("gaussian"), _write(tmp_path, text, "job.log"))
    assert one.energy == pytest.approx(-75.75 * HARTREE, rel=1e-7)


def test_gaussian_unconverged_and_cut_off(tmp_path):
    failed = INPUT + " >>>>>>>>>> Convergence criterion not met.\n" + DONE
    text = START.format(route="") + failed + INPUT + DONE + FORCES
    with pytest.warns(LamWarning, match="1 of 2 steps left out"):
        (one,) = structures(get("gaussian"), _write(tmp_path, text, "job.log"))
    assert one.forces is not None
    cut = START.format(route="") + INPUT + DONE + FORCES[: FORCES.index("      2        1")]
    (message,) = problems(get("gaussian"), _write(tmp_path, cut, "job.log"))
    assert "job.log' holds no geometry with an energy" in message
