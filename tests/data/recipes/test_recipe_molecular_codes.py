"""ORCA and Gaussian: energies that belong to the forces, signs, axes, charge, steps that are left out."""

import numpy as np
import pytest
from recipe_tools import BOHR, HARTREE, problems, structures

from lam.data.recipes import detect, get
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


def test_orca_gradient_before_the_energy(tmp_path):
    # ORCA 6 prints the gradient first.
    text = ORCA.format(problem="", note="")
    begin, end = text.index("-------------------------   -----"), text.index("------------------\nCARTESIAN GRADIENT")
    path = _write(tmp_path, text[:begin] + text[end:] + text[begin:end])
    (one,) = structures(get("orca"), path)
    assert one.energy == pytest.approx(-75.5 * HARTREE, rel=1e-7)
    np.testing.assert_allclose(one.forces[0], np.array([-0.125, 0, 0.25]) * HARTREE / BOHR, rtol=1e-6)


def test_energies_of_geometries_that_are_not_printed_are_not_taken(tmp_path):
    # Numerical derivatives and dynamics: only the first geometry is printed.
    text = ORCA.format(problem="", note="")
    begin, end = text.index("-------------------------   -----"), text.index("------------------\nCARTESIAN GRADIENT")
    energy, gradient = text[begin:end], text[end:]
    for printed in (energy + gradient, gradient + energy):  # ORCA 6 prints the gradient first
        other = printed.replace("75.5", "75.9").replace("0.125", "0.925")
        again = "   SCF NOT CONVERGED AFTER 125 CYCLES\n" + other
        (one,) = structures(get("orca"), _write(tmp_path, text[:begin] + printed + again + other))
        assert one.energy == pytest.approx(-75.5 * HARTREE, rel=1e-7)
        assert one.forces[0, 0] == pytest.approx(-0.125 * HARTREE / BOHR, rel=1e-6)
    text = START.format(route="") + INPUT + STANDARD + DONE + FORCES + 3 * DONE.replace("75.5", "75.9")
    (one,) = structures(get("gaussian"), _write(tmp_path, text, "job.log"))
    assert one.energy == pytest.approx(-75.5 * HARTREE, rel=1e-7)
    assert one.forces[0, 0] == pytest.approx(0.125 * HARTREE / BOHR, rel=1e-6)


ENGRAD = """\
#
# Number of atoms
#
 2
#
# The current total energy in Eh
#
    -75.500000000000
#
# The current gradient in Eh/bohr
#
       0.125000000000
       0.000000000000
      -0.250000000000
      -0.125000000000
       0.000000000000
       0.250000000000
#
# The atomic numbers and current coordinates in Bohr
#
   8     0.0000000    0.0000000    0.2500000
   1     0.0000000    1.5000000   -1.0000000
"""


def test_orca_engrad(tmp_path):
    path = _write(tmp_path, ENGRAD, "job.engrad")
    (one,) = structures(get("orca"), path)
    assert one.energy == pytest.approx(-75.5 * HARTREE, rel=1e-7)
    np.testing.assert_array_equal(one.numbers, [8, 1])
    np.testing.assert_allclose(one.positions, np.array([[0, 0, 0.25], [0, 1.5, -1]]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(one.forces[0], np.array([-0.125, 0, 0.25]) * HARTREE / BOHR, rtol=1e-6)
    assert (one.total_charge, one.spin_multiplicity) == (None, None)
    _write(tmp_path, "! wB97M-V EnGrad\n\n * xyz -1 1\nO 0 0 0.13\nH 0 0.8 -0.5\n*\n", "job.inp")
    assert (structures(get("orca"), path)[0].total_charge, structures(get("orca"), path)[0].spin_multiplicity) == (
        -1,
        1,
    )
    assert get("orca").find(tmp_path) == [path] and detect(path) == "orca"
    printed = _write(tmp_path, ORCA.format(problem="", note=""))
    assert get("orca").find(tmp_path) == [printed]  # the same calculation
    (message,) = problems(get("orca"), _write(tmp_path, ENGRAD[:-60], "job.engrad"))
    assert "job.engrad' is cut off" in message


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


@pytest.mark.parametrize(
    "line", [" Counterpoise: doing DCBS calculation for fragment   1", " ONIOM: calculating energy."]
)
def test_gaussian_energies_of_parts_are_refused(tmp_path, line):
    text = START.format(route="") + INPUT + line + "\n" + DONE + FORCES
    (message,) = problems(get("gaussian"), _write(tmp_path, text, "job.log"))
    assert "ONIOM or a counterpoise correction" in message


FCHK = """\
water, at the level of the whole calculation
Force     RwB97XD                                                     6-31G(d)
Number of atoms                            I                2
Charge                                     I               -1
Multiplicity                               I                1
Number of electrons                        I               10
Atomic numbers                             I   N=           2
           8           1
Nuclear charges                            R   N=           2
  8.00000000E+00  1.00000000E+00
Current cartesian coordinates              R   N=           6
  0.00000000E+00  0.00000000E+00  2.50000000E-01  0.00000000E+00  1.50000000E+00
 -1.00000000E+00
Number of translation vectors              I                0
SCF Energy                                 R     -7.525000000000000E+01
Total Energy                               R     -7.550000000000000E+01
Cartesian Gradient                         R   N=           6
  1.25000000E-01  0.00000000E+00 -2.50000000E-01 -1.25000000E-01  0.00000000E+00
  2.50000000E-01
"""


def test_gaussian_fchk(tmp_path):
    path = _write(tmp_path, FCHK, "job.fchk")
    (one,) = structures(get("gaussian"), path)
    assert one.energy == pytest.approx(-75.5 * HARTREE, rel=1e-7)  # of the method, not of the SCF below it
    np.testing.assert_array_equal(one.numbers, [8, 1])
    np.testing.assert_allclose(one.positions, np.array([[0, 0, 0.25], [0, 1.5, -1]]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(one.forces[0], np.array([-0.125, 0, 0.25]) * HARTREE / BOHR, rtol=1e-6)
    assert (one.total_charge, one.spin_multiplicity) == (-1, 1)
    assert get("gaussian").find(tmp_path) == [path] and detect(path) == "gaussian"
    _write(tmp_path, FCHK[: FCHK.index("Cartesian Gradient")], "job.fchk")
    assert structures(get("gaussian"), path)[0].forces is None
    for text, reason in (
        (FCHK[:-20], "cut off in 'Cartesian Gradient'"),
        (FCHK[: FCHK.index("SCF Energy")], "has no energy"),
        (
            FCHK.replace("vectors              I                0", "vectors              I                3"),
            "periodic",
        ),
    ):
        (message,) = problems(get("gaussian"), _write(tmp_path, text, "job.fchk"))
        assert reason in message
