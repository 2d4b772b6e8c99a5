"""CP2K: old and new forms of its output, sign and units of the stress, trajectories with forces and cells."""

import numpy as np
import pytest
from recipe_tools import BOHR, HARTREE, problems, structures

from lam.data.recipes import detect, get
from lam.errors import LamWarning

RECIPE = get("cp2k")
GPA = 1 / 160.21766

SETTINGS = """\
 CP2K| version string:                                       CP2K version 2023.1
 CELL| Volume [angstrom^3]:                                              125.000
 CELL| Vector a [angstrom]:       5.000     0.000     0.000    |a| =       5.000
 CELL| Vector b [angstrom]:       0.000     5.000     0.000    |b| =       5.000
 CELL| Vector c [angstrom]:       1.000     0.000     5.000    |c| =       5.099
 DFT| Charge                                                                  -1
 DFT| Multiplicity                                                             2
"""
COORDINATES = """\
 MODULE QUICKSTEP: ATOMIC COORDINATES IN {unit}

   Atom Kind Element         X             Y             Z       Z(eff)     Mass
      1    1 O     8      0.000000      0.000000      0.125000   6.0000  15.9994
      2    2 H     1      0.000000      1.000000      0.000000   1.0000   1.0079

"""
OLD = """\
  *** SCF run {not_}converged in    12 steps ***
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:              -17.250000000000000

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      O           0.12500000     0.00000000    -0.25000000
      2      2      H          -0.12500000     0.00000000     0.25000000
 SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000

 STRESS TENSOR [GPa]

            X               Y               Z
  X       1.50000000      0.25000000      0.00000000
  Y       0.25000000     -0.50000000      0.00000000
  Z       0.00000000      0.00000000      2.00000000

  1/3 Trace(stress tensor):   1.00000000E+00
"""
NEW = """\
 ENERGY| Total FORCE_EVAL ( QS ) energy [hartree]             -17.250000000000000

 FORCES| Atomic forces [hartree/bohr]
 FORCES|   Atom     x               y               z               |f|
 FORCES|      1  1.25000000E-01  0.00000000E+00 -2.50000000E-01  2.79508497E-01
 FORCES|      2 -1.25000000E-01  0.00000000E+00  2.50000000E-01  2.79508497E-01
 FORCES| Sum     0.00000000E+00  0.00000000E+00  0.00000000E+00  0.00000000E+00

 STRESS| Analytical stress tensor [bar]
 STRESS|                        x                   y                   z
 STRESS|      x        1.50000000000E+04   2.50000000000E+03   0.00000000000E+00
 STRESS|      y        2.50000000000E+03  -5.00000000000E+03   0.00000000000E+00
 STRESS|      z        0.00000000000E+00   0.00000000000E+00   2.00000000000E+04
 STRESS| 1/3 Trace                                             1.00000000000E+04
 STRESS| Eigenvectors and eigenvalues of the analytical stress tensor [bar]
 STRESS|      x           9.000000000000      9.000000000000      9.000000000000
"""


def _output(tmp_path, body, *, unit="angstrom", name="cp2k.out"):
    path = tmp_path / name
    path.write_text(SETTINGS + COORDINATES.format(unit=unit) + body)
    return path


@pytest.mark.parametrize("body", [OLD.format(not_=""), NEW])
def test_values(tmp_path, body):
    path = _output(tmp_path, body)
    (one,) = structures(RECIPE, path)
    assert one.energy == pytest.approx(-17.25 * HARTREE, rel=1e-7)
    np.testing.assert_array_equal(one.numbers, [8, 1])
    np.testing.assert_array_equal(one.positions[0], [0, 0, 0.125])
    np.testing.assert_array_equal(one.cell, [[5, 0, 0], [0, 5, 0], [1, 0, 5]])
    np.testing.assert_allclose(one.forces[0], np.array([0.125, 0, -0.25]) * HARTREE / BOHR, rtol=1e-6)
    expected = -GPA * np.array([[1.5, 0.25, 0], [0.25, -0.5, 0], [0, 0, 2.0]])
    np.testing.assert_allclose(one.stress, expected, rtol=1e-6)
    assert (one.total_charge, one.spin_multiplicity) == (-1, 2)
    assert RECIPE.find(tmp_path) == [path]


def test_positions_in_bohr(tmp_path):
    (one,) = structures(RECIPE, _output(tmp_path, NEW, unit="bohr"))
    assert one.positions[0, 2] == pytest.approx(0.125 * BOHR, rel=1e-6)


def test_unconverged_is_left_out(tmp_path):
    with pytest.warns(LamWarning, match="1 of 1 steps left out"):
        assert structures(RECIPE, _output(tmp_path, OLD.format(not_="NOT "))) == []


def test_bad_outputs(tmp_path):
    (message,) = problems(RECIPE, _output(tmp_path, ""))
    assert "cp2k.out' holds no coordinates with an energy" in message
    (message,) = problems(RECIPE, _output(tmp_path, NEW[: NEW.index(" FORCES|      2")]))
    assert "forces on 1 of 2 atoms" in message
    (message,) = problems(RECIPE, _output(tmp_path, NEW.replace("energy [hartree]", "energy [eV]")))
    assert "in 'eV'" in message


def _trajectory(tmp_path, *, cell=True, output=False, steps=(0, 5)):
    positions = forces = ""
    for number, step in enumerate(steps):
        comment = f" i = {step:8d}, time = {step / 2:12.3f}, E = {-17.25 - number:20.10f}\n"
        positions += f"       2\n{comment}  O  0.0 0.0 {0.125 + number}\n  H  0.0 1.0 0.0\n"
        forces += f"       2\n{comment}  O  0.125 0.0 -0.25\n  H  -0.125 0.0 0.25\n"
    path = tmp_path / "water-pos-1.xyz"
    path.write_text(positions)
    (tmp_path / "water-frc-1.xyz").write_text(forces)
    if cell:
        rows = "".join(f"{s} {s / 2} {5.0 + s} 0 0 0 5 0 1 0 5 125.0\n" for s in steps)
        (tmp_path / "water-1.cell").write_text("#   Step   Time [fs]       Ax [Angstrom]\n" + rows)
    if output:
        (tmp_path / "md.out").write_text(SETTINGS)
    return path


def test_trajectory(tmp_path):
    path = _trajectory(tmp_path)
    first, second = structures(RECIPE, path)
    assert second.energy == pytest.approx(-18.25 * HARTREE, rel=1e-7)
    np.testing.assert_array_equal(second.positions[0], [0, 0, 1.125])
    np.testing.assert_allclose(second.forces[0], np.array([0.125, 0, -0.25]) * HARTREE / BOHR, rtol=1e-6)
    np.testing.assert_array_equal(second.cell, [[10, 0, 0], [0, 5, 0], [1, 0, 5]])  # of step 5
    assert first.group == second.group and first.total_charge is None
    assert RECIPE.find(tmp_path) == [path]


def test_trajectory_takes_cell_and_charge_from_the_output(tmp_path):
    path = _trajectory(tmp_path, cell=False, output=True)
    first = structures(RECIPE, path)[0]
    np.testing.assert_array_equal(first.cell[2], [1, 0, 5])
    assert (first.total_charge, first.spin_multiplicity) == (-1, 2)
    assert RECIPE.find(tmp_path) == [path]


def test_bad_trajectories(tmp_path):
    path = _trajectory(tmp_path, cell=False)
    assert "has no cell" in problems(RECIPE, path)[0]
    path = _trajectory(tmp_path)
    forces = tmp_path / "water-frc-1.xyz"
    forces.write_text(forces.read_text().replace("i =        5", "i =        6"))
    assert "water-pos-1.xyz#1: 'water-frc-1.xyz' has step 6" in problems(RECIPE, path)[0]
    path.write_text(path.read_text()[:-25])
    assert "water-pos-1.xyz' is cut off" in problems(RECIPE, path)[0]
    forces.unlink()
    assert "has no forces beside it" in problems(RECIPE, path)[0]


def _step(energy, *, failed=False):
    text = f"  *** SCF run {'NOT ' if failed else ''}converged in    12 steps ***\n"
    return text + OLD[OLD.index(" ENERGY|") :].replace("-17.250000000000000", f"{energy:.15f}")


def test_trajectory_with_forces_in_the_output(tmp_path):
    path = _trajectory(tmp_path, cell=False)
    (tmp_path / "water-frc-1.xyz").unlink()
    # A step between the two that were written to the trajectory.
    (tmp_path / "md.out").write_text(SETTINGS + _step(-17.25) + _step(-17.5) + _step(-18.25))
    second = structures(RECIPE, path)[1]
    assert second.energy == pytest.approx(-18.25 * HARTREE, rel=1e-7)
    np.testing.assert_allclose(second.forces[0], np.array([0.125, 0, -0.25]) * HARTREE / BOHR, rtol=1e-6)
    assert second.stress[0, 0] == pytest.approx(-1.5 * GPA, rel=1e-6)
    (tmp_path / "md.out").write_text(SETTINGS + _step(-17.25))
    assert "water-pos-1.xyz#1" in problems(RECIPE, path)[0]


def test_trajectory_leaves_out_unconverged_steps(tmp_path):
    path = _trajectory(tmp_path)
    (tmp_path / "md.out").write_text(SETTINGS + _step(-17.25, failed=True) + _step(-18.25))
    with pytest.warns(LamWarning, match="1 of 2 steps left out"):
        (only,) = structures(RECIPE, path)
    assert only.source.endswith("water-pos-1.xyz#1")


@pytest.mark.parametrize(
    "line", [" GLOBAL| Run type      CELL_OPT", " MD| Ensemble Type      NPT_I", " MD_PAR| Ensemble type      NPT_F"]
)
def test_trajectory_with_a_cell_that_changes_needs_its_cells(tmp_path, line):
    path = _trajectory(tmp_path, cell=False)
    (tmp_path / "md.out").write_text(SETTINGS + line + "\n")
    (message,) = problems(RECIPE, path)
    assert "the cell changes" in message and "water-1.cell" in message
    (tmp_path / "md.out").write_text(SETTINGS + " MD| Ensemble Type      NVT\n")
    assert len(structures(RECIPE, path)) == 2
    (tmp_path / "md.out").write_text(SETTINGS + line + "\n")
    path = _trajectory(tmp_path, cell=True)
    np.testing.assert_array_equal(structures(RECIPE, path)[1].cell[0], [10, 0, 0])


def test_trajectory_is_recognised(tmp_path):
    assert detect(_trajectory(tmp_path)) == "cp2k"


# As version 2025.2 prints them.
HEXAGONAL = """\
 CELL| Vector a [angstrom]:      16.869     0.000     0.000   |a| =    16.869312
 CELL| Vector b [angstrom]:      -8.435    14.609     0.000   |b| =    16.869312
 CELL| Vector c [angstrom]:       0.000     0.000    41.478   |c| =    41.478000
 CELL| Angle (b,c), alpha [degree]:                                    90.000000
 CELL| Angle (a,c), beta  [degree]:                                    90.000000
 CELL| Angle (a,b), gamma [degree]:                                   120.000000
 CELL| Periodicity                                                           XYZ
"""


def test_cell_by_its_lengths_and_angles_which_have_more_digits(tmp_path):
    path = tmp_path / "cp2k.out"
    path.write_text(HEXAGONAL + COORDINATES.format(unit="angstrom") + NEW)
    a = 16.869312
    (one,) = structures(RECIPE, path)
    np.testing.assert_allclose(one.cell, [[a, 0, 0], [-a / 2, a * 0.75**0.5, 0], [0, 0, 41.478]], atol=1e-9)
    other = HEXAGONAL.replace("-8.435    14.609     0.000", "14.609    -8.435     0.000")  # turned
    path.write_text(other + COORDINATES.format(unit="angstrom") + NEW)
    np.testing.assert_array_equal(structures(RECIPE, path)[0].cell[1], [14.609, -8.435, 0])
