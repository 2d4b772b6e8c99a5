"""Quantum ESPRESSO: units and signs of pw.x, cells of vc-relax, charge and spin, steps that are left out."""

import numpy as np
import pytest
from recipe_tools import BOHR, HARTREE, problems, structures

from lam.data.recipes import detect, get
from lam.data.recipes.espresso import _number
from lam.errors import LamWarning

RECIPE = get("espresso")
RY = HARTREE / 2

HEADER = """\
     Program PWSCF v.7.2 starts on 22Mar2024 at 10: 0: 0
     bravais-lattice index     =            0
     lattice parameter (alat)  =      10.0000  a.u.
     number of atoms/cell      =            2
     number of electrons       =        {electrons}
     celldm(1)=  10.000000  celldm(2)=   0.000000  celldm(3)=   0.000000
     crystal axes: (cart. coord. in units of alat)
               a(1) = (   1.000000   0.000000   0.000000 )
               a(2) = (   0.000000   1.000000   0.000000 )
               a(3) = (   0.500000   0.000000   2.000000 )

     atomic species   valence    mass     pseudopotential
        Na1            9.00    22.99000     Na( 1.00)
        Cl             7.00    35.45000     Cl( 1.00)

   Cartesian axes

     site n.     atom                  positions (alat units)
         1           Na1 tau(   1) = (   0.0000000   0.0000000   0.0000000  )
         2           Cl  tau(   2) = (   0.2500000   0.0000000   0.5000000  )

   Crystallographic axes

     site n.     atom                  positions (cryst. coord.)
         1           Na1 tau(   1) = (  0.0000000  0.0000000  0.0000000  )
         2           Cl  tau(   2) = (  0.1250000  0.0000000  0.2500000  )
"""
SCF = """\
     total energy              =    -123.99000000 Ry
     End of self-consistent calculation
!    total energy              =    {energy:.8f} Ry
     estimated scf accuracy    <       0.00000001 Ry
     smearing contrib. (-TS)   =      -0.00100000 Ry
     internal energy E=F+TS    =    -123.00000000 Ry
     convergence has been achieved in   6 iterations

     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.10000000    0.00000000   -0.20000000
     atom    2 type  2   force =    -0.10000000    0.00000000    0.20000000
     The non-local contrib.  to forces
     atom    1 type  1   force =     9.00000000    9.00000000    9.00000000

     Total force =     0.316228     Total SCF correction =     0.000001

     Computing stress (Cartesian axis) and pressure

          total   stress  (Ry/bohr**3)                   (kbar)     P=       49.04
   0.00100000   0.00020000   0.00000000          147.11       29.42        0.00
   0.00020000  -0.00050000   0.00000000           29.42      -73.55        0.00
   0.00000000   0.00000000   0.00050000            0.00        0.00       73.55

"""
NOT_CONVERGED = """\
     total energy              =    -120.00000000 Ry
     convergence NOT achieved after 100 iterations: stopping
     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     5.00000000    0.00000000   -0.20000000
     atom    2 type  2   force =    -5.00000000    0.00000000    0.20000000
"""
MOVED = """\
CELL_PARAMETERS (alat= 10.00000000)
   1.100000000   0.000000000   0.000000000
   0.000000000   1.000000000   0.000000000
   0.500000000   0.000000000   2.000000000

ATOMIC_POSITIONS (crystal)
Na1           0.0000000000        0.0000000000        0.0000000000    0   0   0
Cl            0.5000000000        0.0000000000        0.5000000000

"""


def _file(tmp_path, *blocks, electrons="16.00"):
    path = tmp_path / "job.out"
    path.write_text(HEADER.format(electrons=electrons) + "".join(blocks))
    return path


def test_values(tmp_path):
    path = _file(tmp_path, SCF.format(energy=-124.0), MOVED, SCF.format(energy=-124.5))
    first, second = structures(RECIPE, path)
    assert first.energy == pytest.approx(-124.0 * RY, rel=1e-7)  # F, not E = F + TS
    np.testing.assert_array_equal(first.numbers, [11, 17])
    np.testing.assert_allclose(first.positions[1], np.array([2.5, 0, 5]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(first.cell[2], np.array([5, 0, 20]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(first.forces[0], np.array([0.1, 0, -0.2]) * RY / BOHR, rtol=1e-6)
    expected = -np.array([[1.0, 0.2, 0], [0.2, -0.5, 0], [0, 0, 0.5]]) * 1e-3 * RY / BOHR**3
    np.testing.assert_allclose(first.stress, expected, rtol=1e-6)
    assert first.stress[0, 0] == pytest.approx(-147.11 / 1602.1766, rel=1e-3)  # the same, from the kbar beside it
    np.testing.assert_allclose(second.cell[0], np.array([11, 0, 0]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(second.positions[1], np.array([8, 0, 10]) * BOHR, rtol=1e-6)
    assert (first.total_charge, first.spin_multiplicity) == (0, None)
    assert first.source.endswith("job.out#0") and first.group == second.group


def test_charge_and_spin(tmp_path):
    path = _file(tmp_path, SCF.format(energy=-1.0), electrons="15.00 (up:   8.00, down:   7.00)")
    (one,) = structures(RECIPE, path)
    assert (one.total_charge, one.spin_multiplicity) == (1, 2)


@pytest.mark.parametrize(
    ("card", "expected"),
    [("(alat)", 10 * BOHR), ("(bohr)", BOHR), ("(angstrom)", 1.0), ("{angstrom}", 1.0)],
)
def test_units_of_positions(tmp_path, card, expected):
    moved = f"ATOMIC_POSITIONS {card}\nNa1 0.0 0.0 0.0\nCl 0.0 0.0 2.0\n\n"
    found = structures(RECIPE, _file(tmp_path, SCF.format(energy=-1.0), moved, SCF.format(energy=-2.0)))
    assert found[1].positions[1, 2] == pytest.approx(2 * expected, rel=1e-6)


def test_unconverged_steps_are_left_out(tmp_path):
    path = _file(tmp_path, SCF.format(energy=-124.0), MOVED, NOT_CONVERGED)
    with pytest.warns(LamWarning, match="1 of 2 steps left out"):
        (one,) = structures(RECIPE, path)
    assert one.forces[0, 0] == pytest.approx(0.1 * RY / BOHR, rel=1e-6)


def test_final_coordinates_are_no_step(tmp_path):
    assert len(structures(RECIPE, _file(tmp_path, SCF.format(energy=-124.0), "Begin final coordinates\n", MOVED))) == 1


def test_cut_off_step_is_left_out(tmp_path):
    last = SCF.format(energy=-124.5)
    path = _file(tmp_path, SCF.format(energy=-124.0), MOVED, last[: last.index("     atom    2")])
    assert len(structures(RECIPE, path)) == 1


def test_band_structures_are_left_out(tmp_path):
    path = _file(tmp_path, "     End of band structure calculation\n\n     the Fermi energy is     3.1 ev\n")
    with pytest.warns(LamWarning, match="job.out' is left out: a band structure"):
        assert structures(RECIPE, path) == []


def test_bad_input(tmp_path):
    (message,) = problems(RECIPE, _file(tmp_path))
    assert "job.out' holds no converged" in message
    (tmp_path / "job.out").write_text(SCF.format(energy=-1.0))
    (message,) = problems(RECIPE, tmp_path / "job.out")
    assert "job.out' has no positions" in message


@pytest.mark.parametrize(
    ("label", "number"), [("Fe1", 26), ("Fe_up", 26), ("fe", 26), ("O", 8), ("H2", 1), ("C_a", 6), ("OW", 8)]
)
def test_species(label, number):
    assert _number(label, "x") == number


XML = """\
<?xml version="1.0" encoding="UTF-8"?>
<qes:espresso xmlns:qes="http://www.quantum-espresso.org/ns/qes/qes-1.0" Units="Hartree atomic units">
  <general_info><creator NAME="PWSCF" VERSION="7.2">XML file generated by PWSCF</creator></general_info>
  <input>
    <control_variables><calculation>{calculation}</calculation></control_variables>
    <bands><tot_charge>1.000000000000000e0</tot_charge><tot_magnetization>{moment}</tot_magnetization></bands>
  </input>
{steps}  <output>
    <convergence_info><scf_conv><convergence_achieved>{achieved}</convergence_achieved></scf_conv></convergence_info>
{last}  </output>
  <exit_status>0</exit_status>
</qes:espresso>
"""
XML_STEP = """\
    <atomic_structure nat="2" alat="1.0e1">
      <atomic_positions>
        <atom name="Na1" index="1">0.000000000000000e0 0.000000000000000e0 0.000000000000000e0</atom>
        <atom name="Cl" index="2">{x} 0.000000000000000e0 5.000000000000000e0</atom>
      </atomic_positions>
      <cell>
        <a1>1.000000000000000e1 0.000000000000000e0 0.000000000000000e0</a1>
        <a2>0.000000000000000e0 1.000000000000000e1 0.000000000000000e0</a2>
        <a3>5.000000000000000e0 0.000000000000000e0 2.000000000000000e1</a3>
      </cell>
    </atomic_structure>
    <total_energy><etot>{energy}</etot><eband>-1.0e0</eband><demet>-1.0e-3</demet></total_energy>
    <forces rank="2" dims="3 2" order="F">
      5.000000000000000e-2 0.000000000000000e0 -1.000000000000000e-1
      -5.000000000000000e-2 0.000000000000000e0 1.000000000000000e-1
    </forces>
    <stress rank="2" dims="3 3" order="F">
      5.000000000000000e-4 1.000000000000000e-4 0.000000000000000e0
      1.000000000000000e-4 -2.500000000000000e-4 0.000000000000000e0
      0.000000000000000e0 0.000000000000000e0 2.500000000000000e-4
    </stress>
"""


def _xml_step(energy, x=2.5, achieved="true"):
    conv = f"<scf_conv><convergence_achieved>{achieved}</convergence_achieved></scf_conv>\n"
    return f'  <step n_step="1">\n{conv}{XML_STEP.format(energy=energy, x=x)}  </step>\n'


def _xml(path, *, steps=(), last=-62.0, x=2.5, achieved="true", moment="2.0e0", calculation="scf"):
    text = XML_STEP.format(energy=last, x=x)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        XML.format(calculation=calculation, moment=moment, steps="".join(steps), achieved=achieved, last=text)
    )
    return path


def test_xml_values(tmp_path):
    # The numbers of the printed output above, in Hartree.
    (one,) = structures(RECIPE, _xml(tmp_path / "na.xml"))
    (other,) = structures(RECIPE, _file(tmp_path, SCF.format(energy=-124.0)))
    assert one.energy == pytest.approx(-62.0 * HARTREE, rel=1e-7)
    for name in ("numbers", "positions", "cell", "forces", "stress"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-12, err_msg=name)
    assert one.stress[0, 0] < 0  # compressed: pw.x says positive
    assert (one.total_charge, one.spin_multiplicity) == (1, 3)


def test_xml_of_a_relaxation_and_of_dynamics(tmp_path):
    steps = (_xml_step(-62.0), _xml_step(-62.5, x=2.6, achieved="false"), _xml_step(-63.0, x=2.7))
    path = _xml(tmp_path / "na.xml", steps=steps, last=-63.0, x=9.9, moment="-1.0e0", calculation="md")
    with pytest.warns(LamWarning, match="1 of 3 steps left out"):
        found = structures(RECIPE, path)
    # After dynamics, the atoms of the section 'output' have moved on from the energy and the forces beside them.
    np.testing.assert_allclose([s.positions[1, 0] / BOHR for s in found], [2.5, 2.7], rtol=1e-6)
    assert found[0].spin_multiplicity is None  # -1: not fixed
    path = _xml(tmp_path / "na.xml", steps=steps[:1], last=-63.5, calculation="vc-relax")
    assert len(structures(RECIPE, path)) == 2  # vc-relax ends with a calculation in the new cell


def test_xml_is_found_where_nothing_was_printed_and_only_once(tmp_path):
    path = _xml(tmp_path / "out" / "na.xml")
    copy = _xml(tmp_path / "out" / "na.save" / "data-file-schema.xml")
    other = _xml(tmp_path / "b" / "na.save" / "data-file-schema.xml")
    assert RECIPE.find(tmp_path) == [other, path]
    assert detect(path) == detect(copy) == "espresso"
    printed = _file(tmp_path, SCF.format(energy=-124.0))
    assert RECIPE.find(tmp_path) == [printed]


def test_bad_xml(tmp_path):
    path = _xml(tmp_path / "na.xml", steps=(_xml_step(-62.0),))
    text = path.read_text()
    path.write_text(text[: text.index("<output>") + 20])
    assert "na.xml' ends too early" in problems(RECIPE, path)[0]
    path.write_text(text.replace("-1.000000000000000e-1", "***"))
    assert "should hold 6 numbers" in problems(RECIPE, path)[0]
