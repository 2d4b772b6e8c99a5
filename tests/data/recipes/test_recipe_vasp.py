"""VASP: free energy, stress order and sign, charge, unconverged and cut-off steps, in OUTCAR and vasprun.xml."""

import bz2
import gzip

import numpy as np
import pytest
from recipe_tools import KBAR, problems, structures

from lam.data.recipes import get
from lam.errors import LamWarning

RECIPE = get("vasp")

HEADER = """\
 vasp.6.3.2 27Jun22 (build Nov 21 2022) complex
 POTCAR:    PAW_PBE O 08Apr2002
 POTCAR:    PAW_PBE H 15Jun2001
   VRHFIN =O: s2p4
   POMASS =   16.000; ZVAL   =    6.000    mass and valenz
   VRHFIN =H: ultrasoft test
   POMASS =    1.000; ZVAL   =    1.000    mass and valenz
   number of dos      NEDOS =    301   number of ions     NIONS =      3
   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps
   NELECT =      {electrons:.4f}    total number of electrons
   NUPDOWN=     {nupdown:.4f}    fix difference up-down
   ions per type =               1   2
  Mass of Ions in am
   POMASS =  16.00  1.00
      direct lattice vectors                 reciprocal lattice vectors
     4.000000000  0.000000000  0.000000000     0.250000000  0.000000000  0.000000000
     0.000000000  4.000000000  0.000000000     0.000000000  0.250000000  0.000000000
     0.000000000  0.000000000  4.000000000     0.000000000  0.000000000  0.250000000
"""
STEP = """\
----------------------------------------- Iteration    {number}(   7)  ---------------------------------------
  free energy    TOTEN  =       -99.99999999 eV
------------------------ aborting loop {loop} ----------------------------------------
  FORCE on cell =-STRESS in cart. coord.  units (eV):
  Direction    XX          YY          ZZ          XY          YZ          ZX
  Total       1.00000     2.00000     3.00000     4.00000     5.00000     6.00000
  in kB      10.00000   -20.00000    30.00000     4.00000     5.00000     6.00000
  external pressure =        6.67 kB  Pullay stress =        0.00 kB
 VOLUME and BASIS-vectors are now :
      direct lattice vectors                 reciprocal lattice vectors
    {length:.9f}  0.000000000  0.000000000     0.200000000  0.000000000  0.000000000
     0.000000000  4.000000000  0.000000000     0.000000000  0.250000000  0.000000000
     0.000000000-10.000000000  4.000000000     0.000000000  0.000000000  0.250000000
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.10000      0.00000      0.00000         0.500000     -0.250000      0.000000
      1.00000      0.00000      0.00000        -0.500000      0.000000      0.000000
      0.00000      1.00000      0.00000         0.000000      0.250000      0.000000
 -----------------------------------------------------------------------------------
    total drift:                               -0.000100     -0.000200      0.000300
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =       {energy:.8f} eV
  energy  without entropy=      -14.90000000  energy(sigma->0) =      -14.95000000
"""
REACHED, NOT_REACHED = "because EDIFF is reached", "EDIFF was not reached (unconverged)"


def _outcar(folder, steps, *, electrons=8.0, nupdown=-1.0, end=""):
    folder.mkdir(parents=True, exist_ok=True)
    text = HEADER.format(electrons=electrons, nupdown=nupdown)
    for number, (energy, loop) in enumerate(steps, 1):
        text += STEP.format(number=number, energy=energy, loop=loop, length=4.0 + number)
    path = folder / "OUTCAR"
    path.write_text(text + end)
    return path


def test_outcar_values(tmp_path):
    path = _outcar(tmp_path / "job", [(-15.0, REACHED), (-15.25, REACHED)])
    first, second = structures(RECIPE, path)
    assert (first.energy, second.energy) == (-15.0, -15.25)  # TOTEN of the ionic step, not sigma -> 0
    np.testing.assert_array_equal(first.numbers, [8, 1, 1])
    np.testing.assert_array_equal(first.positions[0], [0.1, 0, 0])
    np.testing.assert_array_equal(first.forces[0], [0.5, -0.25, 0])
    np.testing.assert_array_equal(second.cell, [[6, 0, 0], [0, 4, 0], [0, -10, 4]])
    # VASP's order is xx yy zz xy yz zx; its sign is compressive positive.
    expected = -KBAR * np.array([[10.0, 4.0, 6.0], [4.0, -20.0, 5.0], [6.0, 5.0, 30.0]])
    np.testing.assert_allclose(first.stress, expected, rtol=1e-6)
    assert first.total_charge == 0 and first.spin_multiplicity is None
    assert first.source.endswith("job/OUTCAR#0") and first.group == first.source.removesuffix("#0")


def test_outcar_charge_and_spin(tmp_path):
    (one,) = structures(RECIPE, _outcar(tmp_path / "job", [(-15.0, REACHED)], electrons=9.0, nupdown=1.0))
    assert (one.total_charge, one.spin_multiplicity) == (-1, 2)


def test_outcar_elements_by_the_titles_of_the_potentials(tmp_path):
    path = _outcar(tmp_path / "job", [(-15.0, REACHED)])
    lines = path.read_text().replace("PAW_PBE O ", "PAW_PBE O_s ").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "VRHFIN" not in line))
    np.testing.assert_array_equal(structures(RECIPE, path)[0].numbers, [8, 1, 1])
    path.write_text("".join(line for line in lines if "VRHFIN" not in line and "POTCAR" not in line))
    (message,) = problems(RECIPE, path)
    assert "OUTCAR' states the elements" in message


def test_outcar_unconverged_steps_are_left_out(tmp_path):
    path = _outcar(tmp_path / "job", [(-15.0, REACHED), (-15.25, NOT_REACHED), (-15.5, REACHED)])
    with pytest.warns(LamWarning, match="1 of 3 steps left out"):
        found = structures(RECIPE, path)
    assert [s.energy for s in found] == [-15.0, -15.5]
    assert [s.source[-1] for s in found] == ["0", "2"]


@pytest.mark.parametrize("words", [True, False])
def test_outcar_steps_that_took_nelm_electronic_steps_are_left_out(tmp_path, words):
    # VASP 5 says "EDIFF is reached" of them as well.
    path = _outcar(tmp_path / "job", [(-15.0, REACHED), (-15.25, REACHED), (-15.5, REACHED)])
    lines = path.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if words or "aborting loop" not in line)
    path.write_text(text.replace("Iteration    2(   7)", "Iteration    2(  60)"))  # NELM = 60
    with pytest.warns(LamWarning, match="1 of 3 steps left out"):
        assert [s.energy for s in structures(RECIPE, path)] == [-15.0, -15.5]


@pytest.mark.parametrize("keep", [0.4, 0.6, 0.8, 0.95])
def test_outcar_cut_off_step_is_left_out(tmp_path, keep):
    step = STEP.format(number=2, energy=-16.0, loop=REACHED, length=5.0)
    path = _outcar(tmp_path / "job", [(-15.0, REACHED)], end=step[: int(keep * step.index("  free  energy"))])
    assert [s.energy for s in structures(RECIPE, path)] == [-15.0]


def test_outcar_machine_learned_steps_are_left_out(tmp_path):
    step = STEP.format(number=2, energy=-16.0, loop=REACHED, length=5.0).replace("free  energy  ", "free  energy ML")
    path = _outcar(tmp_path / "job", [(-15.0, REACHED)], end=step)
    assert [s.energy for s in structures(RECIPE, path)] == [-15.0]


def test_outcar_without_a_step(tmp_path):
    (message,) = problems(RECIPE, _outcar(tmp_path / "job", []))
    assert "OUTCAR' holds no complete ionic step" in message
    path = _outcar(tmp_path / "job", [(-15.0, REACHED)])
    path.write_text(path.read_text().replace("-0.250000      0.000000\n", "**************\n"))
    (message,) = problems(RECIPE, path)
    assert "OUTCAR'" in message and "too large" in message


XML_HEAD = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp </i></generator>
 <parameters>
  <separator name="electronic" >
   <i name="NELECT">      9.00000000</i>
   <i name="NUPDOWN">     -1.00000000</i>
   <separator name="electronic convergence" ><i type="int" name="NELM">     3</i></separator>
  </separator>
 </parameters>
 <atominfo>
  <atoms>       3 </atoms>
  <types>       2 </types>
  <array name="atoms" ><set><rc><c>O </c><c>   1</c></rc><rc><c>H </c><c>   2</c></rc><rc><c>H </c><c>   2</c></rc>
  </set></array>
  <array name="atomtypes" >
   <dimension dim="1">type</dimension>
   <set>
    <rc><c>   1</c><c>O </c><c>     16.00000000</c><c>      6.00000000</c><c>  PAW_PBE O 08Apr2002      </c></rc>
    <rc><c>   2</c><c>H </c><c>      1.00000000</c><c>      1.00000000</c><c>  PAW_PBE H 15Jun2001      </c></rc>
   </set>
  </array>
 </atominfo>
"""
XML_STEP = """ <calculation>
  {electronic}
  <structure>
   <crystal>
    <varray name="basis" >
     <v>       4.00000000       0.00000000       0.00000000 </v>
     <v>       0.00000000       4.00000000       0.00000000 </v>
     <v>       2.00000000       0.00000000       4.00000000 </v>
    </varray>
   </crystal>
   <varray name="positions" >
    <v>       0.00000000       0.00000000       0.50000000 </v>
    <v>       0.25000000       0.00000000       0.00000000 </v>
    <v>       0.00000000       0.25000000       0.00000000 </v>
   </varray>
  </structure>
  <varray name="forces" >
   <v>       0.50000000      -0.25000000       0.00000000 </v>
   <v>      -0.50000000       0.00000000       0.00000000 </v>
   <v>       0.00000000       0.25000000       0.00000000 </v>
  </varray>
  <varray name="stress" >
   <v>      10.00000000       4.00000000       6.00000000 </v>
   <v>       4.00000000     -20.00000000       5.00000000 </v>
   <v>       6.00000000       5.00000000      30.00000000 </v>
  </varray>
  <energy>
   <i name="e_fr_energy">{energy}</i>
   <i name="e_wo_entrp">    -14.90000000 </i>
   <i name="e_0_energy">    -14.95000000 </i>
  </energy>
 </calculation>
"""
SCSTEP = '<scstep><energy><i name="e_fr_energy">    -99.0 </i></energy></scstep>'


def _xml(steps, tail="</modeling>\n"):
    return XML_HEAD + "".join(XML_STEP.format(energy=e, electronic=SCSTEP * n) for e, n in steps) + tail


def test_vasprun_values(tmp_path):
    path = tmp_path / "vasprun.xml"
    path.write_text(_xml([(-15.0, 2), (-15.5, 3)]))
    with pytest.warns(LamWarning, match="1 of 2 steps left out"):
        (one,) = structures(RECIPE, path)
    assert one.energy == -15.0
    np.testing.assert_array_equal(one.positions, [[1, 0, 2], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(one.forces[0], [0.5, -0.25, 0])
    expected = -KBAR * np.array([[10.0, 4.0, 6.0], [4.0, -20.0, 5.0], [6.0, 5.0, 30.0]])
    np.testing.assert_allclose(one.stress, expected, rtol=1e-6)
    assert one.total_charge == -1
    assert one.source.endswith("vasprun.xml#0")


def test_vasprun_compressed_and_truncated(tmp_path):
    path = tmp_path / "vasprun.xml.gz"
    path.write_bytes(gzip.compress(_xml([(-15.0, 2), (-15.5, 2)], tail=" <calculation>\n  <struc").encode()))
    with pytest.warns(LamWarning, match="ends too early"):
        assert [s.energy for s in structures(RECIPE, path)] == [-15.0, -15.5]
    path.write_bytes(gzip.compress(_xml([(-15.0, 2)]).replace("e_fr_energy", "e_other").encode()))
    (message,) = problems(RECIPE, path)
    assert "vasprun.xml.gz'" in message and "no e_fr_energy" in message


def test_vasprun_without_the_enthalpy_of_pstress(tmp_path):
    # With PSTRESS = 10 kbar and 64 Angstrom^3, VASP writes TOTEN + P V: -15 + 0.39946 eV.
    enthalpy = 10.0 * KBAR * 64.0
    text = _xml([(-15.0 + enthalpy, 2)]).replace("-99.0", "-15.0")
    text = text.replace("</parameters>", ' <i name="PSTRESS">     10.00000000</i>\n </parameters>')
    path = tmp_path / "vasprun.xml"
    path.write_text(text)
    (one,) = structures(RECIPE, path)
    assert one.energy == pytest.approx(-15.0, abs=1e-6)
    np.testing.assert_allclose(one.stress[0, 0], -10.0 * KBAR, rtol=1e-6)  # PSTRESS is no part of it


def test_vasprun_steps_of_a_machine_learned_force_field_are_left_out(tmp_path):
    incar = ' <incar><i type="logical" name="ML_LMLFF"> T  </i></incar>\n <parameters>'
    path = tmp_path / "vasprun.xml"
    path.write_text(_xml([(-15.0, 2), (-15.5, 0), (-16.0, 1)]).replace(" <parameters>", incar))
    assert [s.energy for s in structures(RECIPE, path)] == [-15.0, -16.0]


def test_vasprun_names_of_elements_of_its_own(tmp_path):
    path = tmp_path / "vasprun.xml.relax1"
    path.write_text(_xml([(-15.0, 2)]).replace("<c>O </c><c>     16", "<c>r </c><c>     91"))
    (one,) = structures(RECIPE, path)
    np.testing.assert_array_equal(one.numbers, [40, 1, 1])  # "r " is zirconium
    assert RECIPE.find(tmp_path) == [path]


def test_outcar_compressed_truncated_and_with_strange_letters(tmp_path):
    text = _outcar(tmp_path / "job", [(-15.0, REACHED), (-15.5, REACHED)]).read_text()
    raw = ("   SYSTEM =  Stra\u00dfe\n" + text).encode("latin-1")
    path = tmp_path / "OUTCAR.bz2"
    path.write_bytes(bz2.compress(raw))
    assert [s.energy for s in structures(RECIPE, path)] == [-15.0, -15.5]
    path = tmp_path / "OUTCAR.gz"
    path.write_bytes(gzip.compress(raw)[:-200])
    (message,) = problems(RECIPE, path)
    assert "OUTCAR.gz' is damaged or truncated" in message


@pytest.mark.parametrize("isif", [0, 1, 2])
def test_stress_needs_isif(tmp_path, isif):
    path = _outcar(tmp_path / "job", [(-15.0, REACHED)])
    line = f"   ISIF   =      {isif}    stress and relaxation\n   NELECT"
    path.write_text(path.read_text().replace("   NELECT", line))
    (one,) = structures(RECIPE, path)
    assert (one.stress is not None) == (isif == 2)  # with 1, only the trace is right
    path = tmp_path / "vasprun.xml"
    path.write_text(_xml([(-15.0, 2)]).replace("</parameters>", f'<i name="ISIF">{isif}</i></parameters>'))
    (one,) = structures(RECIPE, path)
    assert (one.stress is not None) == (isif == 2)


def test_band_structures_are_left_out(tmp_path):
    path = _outcar(tmp_path / "bands", [(-15.0, REACHED)])
    line = "   ICHARG =     11    charge: 1-file 2-atom 10-const\n   NELECT"
    path.write_text(path.read_text().replace("   NELECT", line))
    with pytest.warns(LamWarning, match="bands/OUTCAR' is left out: with ICHARG = 11"):
        assert structures(RECIPE, path) == []
    path = tmp_path / "vasprun.xml"
    path.write_text(_xml([(-15.0, 2)]).replace("</parameters>", '<i name="ICHARG">    11</i></parameters>'))
    with pytest.warns(LamWarning, match="ICHARG = 11"):
        assert structures(RECIPE, path) == []


def test_of_both_files_one_is_read(tmp_path):
    outcar = _outcar(tmp_path / "a", [(-15.0, REACHED)])
    (tmp_path / "a" / "vasprun.xml").write_text(_xml([(-15.0, 2)]))
    other = _outcar(tmp_path / "b", [(-15.0, REACHED)])
    assert RECIPE.find(tmp_path) == [outcar.parent / "vasprun.xml", other]
