"""ABACUS: logs of older and newer form, direct and Cartesian coordinates, stress sign, MD_dump, left-out steps."""

import numpy as np
import pytest
from recipe_tools import BOHR, KBAR, problems, structures

from lam.data.recipes import get
from lam.errors import LamWarning

RECIPE = get("abacus")

HEADER = """\
                             WELCOME TO ABACUS
 READING UNITCELL INFORMATION
                                    ntype = 2
                 atom label for species 1 = Na
                  lattice constant (Bohr) = 10
              lattice constant (Angstrom) = 5.29177

 READING ATOM TYPE 1
                               atom label = Na
             number of atom for this type = 1

 READING ATOM TYPE 2
                               atom label = Cl
             number of atom for this type = 1

                        TOTAL ATOM NUMBER = 2

 CARTESIAN COORDINATES ( UNIT = 10 Bohr ).
         atom                   x                   y                   z                 mag
     tauc_Na1                 0.0                 0.0                0.25                   0
     tauc_Cl1                 0.5                 0.0                 0.0                   0

 Lattice vectors: (Cartesian coordinate: in unit of a_0)
                   +1                  +0                  +0
                   +0                  +1                  +0
                 +0.5                  +0                  +2

 SETUP COORDINATES OF PLANE WAVES
              number of total plane waves = 135043
"""
OLD = """\
 charge density convergence is achieved
 final etot is {energy} eV

 ><><><><><><><><><><><><><><><><><><><><><><
 TOTAL-FORCE (eV/Angstrom)
 ><><><><><><><><><><><><><><><><><><><><><><

                  atom              x              y              z
                   Na1           +0.5             +0          -0.25
                   Cl1           -0.5             +0          +0.25

 ><><><><><><><><><><><><><><><><><><><><><><
 TOTAL-STRESS (KBAR)
 ><><><><><><><><><><><><><><><><><><><><><><

             +10.000000      +2.000000      +0.000000
              +2.000000     -20.000000      +0.000000
              +0.000000      +0.000000     +30.000000

 TOTAL-PRESSURE: 6.666667 KBAR
"""
NEW = """\
 #SCF IS CONVERGED#
 #TOTAL ENERGY# {energy} eV
 #TOTAL-FORCE (eV/Angstrom)#
 -------------------------------------------------------------------------
     Atoms              Force_x              Force_y              Force_z
 -------------------------------------------------------------------------
       Na1         0.5000000000         0.0000000000        -0.2500000000
       Cl1        -0.5000000000         0.0000000000         0.2500000000
 -------------------------------------------------------------------------
 #TOTAL-STRESS (kbar)#
 ----------------------------------------------------------------
            Stress_x             Stress_y             Stress_z
 ----------------------------------------------------------------
       10.0000000000         2.0000000000         0.0000000000
        2.0000000000       -20.0000000000         0.0000000000
        0.0000000000         0.0000000000        30.0000000000
 ----------------------------------------------------------------
"""
MOVED = """\
 DIRECT COORDINATES
         atom                   x                   y                   z                 mag
     taud_Na1                 0.0                 0.0                 0.5                   0
     taud_Cl1                 0.5                 0.0                 0.0                   0

"""
FAILED = " !! convergence has not been achieved @_@\n final etot is -9.9 eV\n"


def _log(tmp_path, *blocks, name="running_relax.log", settings=""):
    folder = tmp_path / "OUT.ABACUS"
    folder.mkdir(exist_ok=True)
    (folder / "INPUT").write_text("INPUT_PARAMETERS\n" + settings)
    path = folder / name
    path.write_text(HEADER + "".join(blocks))
    return path


@pytest.mark.parametrize("form", [OLD, NEW])
def test_values(tmp_path, form):
    path = _log(tmp_path, form.format(energy="-1000.5"), MOVED, form.format(energy="-1000.75"))
    first, second = structures(RECIPE, path)
    assert (first.energy, second.energy) == (-1000.5, -1000.75)
    np.testing.assert_array_equal(first.numbers, [11, 17])
    np.testing.assert_allclose(first.positions[0], np.array([0, 0, 2.5]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(second.positions[0], np.array([2.5, 0, 10]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(first.cell[2], np.array([5, 0, 20]) * BOHR, rtol=1e-6)
    np.testing.assert_array_equal(first.forces[0], [0.5, 0, -0.25])
    expected = -KBAR * np.array([[10.0, 2, 0], [2, -20, 0], [0, 0, 30]])
    np.testing.assert_allclose(first.stress, expected, rtol=1e-6)
    assert first.total_charge is None and first.spin_multiplicity is None
    assert RECIPE.find(tmp_path) == [path]


def test_units_of_the_tables(tmp_path):
    # As version 2 prints them: forces twice, the energy at the end.
    body = OLD.format(energy="0").split("eV\n", 1)[1]
    first = body[: body.index(" TOTAL-FORCE")] + body[body.index(" TOTAL-FORCE") : body.index(" TOTAL-STRESS")]
    first = first.replace("eV/Angstrom", "Ry/Bohr").replace("0.5 ", "0.01 ")
    stress = body[body.index(" TOTAL-STRESS") :].replace("(KBAR)", "(GPa)")
    end = " !FINAL_ETOT_IS -219.5 eV\n"
    path = _log(tmp_path, first, body[: body.index(" TOTAL-STRESS")], stress, end, name="running_scf.log")
    (one,) = structures(RECIPE, path)
    assert one.energy == -219.5
    np.testing.assert_array_equal(one.forces[0], [0.5, 0, -0.25])
    assert one.stress[0, 0] == pytest.approx(-100.0 * KBAR, rel=1e-6)
    path = _log(tmp_path, first, end, name="running_scf.log")
    assert structures(RECIPE, path)[0].forces is None


def test_lattice_constant_of_one_angstrom(tmp_path):
    path = _log(tmp_path, NEW.format(energy="-1000.5"))
    path.write_text(path.read_text().replace("lattice constant (Bohr) = 10", "lattice constant (Bohr) = 1.88973"))
    (one,) = structures(RECIPE, path)
    np.testing.assert_array_equal(one.cell, [[1, 0, 0], [0, 1, 0], [0.5, 0, 2]])  # not 1.000002


def test_energy_at_the_end_of_the_log(tmp_path):
    body = OLD.format(energy="0").split("eV\n", 1)[1]  # without "final etot is"
    path = _log(tmp_path, body, " !FINAL_ETOT_IS -1000.5 eV\n", name="running_scf.log")
    (one,) = structures(RECIPE, path)
    assert one.energy == -1000.5 and one.forces[0, 0] == 0.5
    assert one.stress[1, 1] == pytest.approx(20 * KBAR, rel=1e-6)
    path = _log(tmp_path, OLD.format(energy="-1000.25"), " !FINAL_ETOT_IS -1000.25 eV\n", name="running_scf.log")
    assert [s.energy for s in structures(RECIPE, path)] == [-1000.25]


def test_charge_and_spin_come_from_the_input(tmp_path):
    path = _log(tmp_path, NEW.format(energy="-1.0"), settings="nelec_delta 1 # added\nnupdown 2.0\n")
    (one,) = structures(RECIPE, path)
    assert (one.total_charge, one.spin_multiplicity) == (-1, 3)


def test_unconverged_steps_are_left_out(tmp_path):
    path = _log(tmp_path, FAILED, MOVED, OLD.format(energy="-1000.75"))
    with pytest.warns(LamWarning, match="1 of 2 steps left out"):
        (one,) = structures(RECIPE, path)
    assert one.energy == -1000.75 and one.source.endswith("running_relax.log#0")


def test_energies_without_coordinates_are_an_error(tmp_path):
    messages = problems(RECIPE, _log(tmp_path, OLD.format(energy="-1.0"), OLD.format(energy="-2.0")))
    assert "an energy without coordinates of its own" in messages[0]
    assert "holds no converged step" in problems(RECIPE, _log(tmp_path))[0]


@pytest.mark.parametrize("old", [False, True])
def test_dynamics(tmp_path, old):
    path = _log(tmp_path, "".join(f" final etot is -{n}.5 eV\n" for n in range(2)), name="running_md.log")
    constant = "10.0" if old else "5.2917721 Angstrom"
    z = 0.25 if old else 2.5 * BOHR
    dump = "".join(
        f"""MDSTEP:  {step}
LATTICE_CONSTANT: {constant}
LATTICE_VECTORS
  1.0  0.0  0.0
  0.0  1.0  0.0
  0.5  0.0  2.0
VIRIAL (kbar)
  10.0  2.0  0.0
  2.0  -20.0  0.0
  0.0  0.0  30.0
INDEX    LABEL    POSITION (Angstrom)    FORCE (eV/Angstrom)    VELOCITY (Angstrom/fs)
  0  Na  0.0  0.0  {z}  0.5  0.0  -0.25  0.1  0.1  0.1
  1  Cl  0.5  0.0  0.0  -0.5  0.0  0.25  0.1  0.1  0.1


"""
        for step in range(2)
    )
    (path.parent / "MD_dump").write_text(dump)
    first, second = structures(RECIPE, path)
    assert (first.energy, second.energy) == (-0.5, -1.5)
    np.testing.assert_allclose(second.positions[0], [0, 0, 2.5 * BOHR], rtol=1e-6)
    np.testing.assert_allclose(second.cell[2], np.array([5, 0, 20]) * BOHR, rtol=1e-6)
    np.testing.assert_array_equal(second.forces[0], [0.5, 0, -0.25])
    assert second.stress[0, 0] == pytest.approx(-10 * KBAR, rel=1e-6)
    # A run that was continued: the log says which step is which, or nothing is read.
    (path.parent / "MD_dump").write_text(dump.replace("MDSTEP:  1", "MDSTEP:  6").replace("MDSTEP:  0", "MDSTEP:  5"))
    assert "has step 5, of which the log has no energy" in problems(RECIPE, path)[0]
    steps = "".join(f" STEP OF MOLECULAR DYNAMICS : {n}\n final etot is -{n}.5 eV\n" for n in (5, 6))
    path.write_text(HEADER + steps)
    assert [s.energy for s in structures(RECIPE, path)] == [-5.5, -6.5]
    (path.parent / "MD_dump").unlink()
    assert "no MD_dump beside it" in problems(RECIPE, path)[0]


@pytest.mark.parametrize(("settings", "charge"), [("nelec 7\n", 1), ("nelec 0\nnelec_delta 1\n", -1), ("nelec 8\n", 0)])
def test_charge_by_the_number_of_electrons(tmp_path, settings, charge):
    path = _log(tmp_path, NEW.format(energy="-1000.5"), settings=settings)
    electrons = "       total electron number of element Na = 1\n       total electron number of element Cl = 7\n"
    path.write_text(path.read_text().replace(" SETUP COORDINATES OF", electrons + " SETUP COORDINATES OF"))
    assert structures(RECIPE, path)[0].total_charge == charge
