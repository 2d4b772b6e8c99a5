"""Engines: their forces are derivatives of their energies, states are passed on, what is unsound is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from lam.data.structure import Structure
from lam.errors import LamError
from lam.label.engines import ENGINES, NotConverged, Refused, engine_info, make_engine, resolve_state
from tests.label.conftest import numeric_force, numeric_forces, numeric_stress


def rattled(atoms, **state):
    atoms.rattle(0.05, seed=3)
    return Structure.from_atoms(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=state))


def needs(package):
    return pytest.mark.skipif(engine_info(package).installed is None, reason=f"{package} is not installed")


MOLECULES = {
    "water": ("H2O", {}),
    "ammonium, +1": ("NH3", {"charge": 1}),
    "radical": ("CH3", {"spin": 2}),
    "triplet": ("O2", {"spin": 3}),
}


@needs("gfn1")
@pytest.mark.parametrize("engine", ["gfn1", "gfn2"])
@pytest.mark.parametrize("name", MOLECULES)
def test_forces_of_xtb(engine, name):
    symbol, state = MOLECULES[name]
    structure, calculator = rattled(molecule(symbol), **state), make_engine(engine)
    labels = calculator.calculate(structure)
    np.testing.assert_allclose(labels.forces, numeric_forces(calculator, structure), atol=2e-4)
    assert labels.stress is None


@needs("gfn1")
def test_stress_of_xtb():
    # Far too small a cell for the Gamma point, but its derivatives are those of its energy.
    structure, engine = rattled(bulk("LiH", "rocksalt", a=4.1)), make_engine("gfn1", {"accuracy": 0.01})
    labels = engine.calculate(structure)
    assert np.abs(labels.stress).max() > 0.01
    np.testing.assert_allclose(labels.stress, numeric_stress(engine, structure, 2e-4), atol=2e-4)
    np.testing.assert_allclose(labels.forces, numeric_forces(engine, structure, 5e-4), atol=1e-3)


@needs("pyscf")
@pytest.mark.parametrize("state", [{"charge": 0}, {"charge": 1, "spin": 2}])
def test_forces_of_pyscf(state):
    engine = make_engine("pyscf", {"functional": "pbe", "basis": "sto-3g", "grid": 3})
    structure = rattled(molecule("H2O"), **state)
    forces = engine.calculate(structure).forces
    for index in ((0, 2), (1, 1)):
        assert forces[index] == pytest.approx(numeric_force(engine, structure, index), abs=2e-4)


@needs("pyscf")
def test_pyscf_agrees_with_pyscf_itself():
    from ase.units import Hartree
    from pyscf import dft, gto

    atoms = molecule("H2O")
    labels = make_engine("pyscf", {"functional": "pbe", "basis": "sto-3g", "density_fit": False}).calculate(
        Structure.from_atoms(atoms)
    )
    mol = gto.M(atom=[(a.symbol, a.position) for a in atoms], basis="sto-3g", verbose=0)
    field = dft.RKS(mol, xc="pbe")
    field.grids.level = 4
    assert labels.energy == pytest.approx(field.kernel() * Hartree, abs=1e-4)
    assert (labels.total_charge, labels.spin_multiplicity) == (0, 1)


@needs("pyscf")
def test_pyscf_is_for_molecules():
    with pytest.raises(Refused, match="molecules"):
        make_engine("pyscf").check(Structure.from_atoms(bulk("Si")))


@needs("gpaw")
@pytest.mark.slow
@pytest.mark.parametrize("symbol", ["Al", "Si"])
def test_forces_and_stress_of_gpaw(symbol):
    engine = make_engine("gpaw", {"cutoff": 600, "kpoint_density": 1.5})
    atoms = bulk(symbol)
    if symbol == "Al":
        atoms = atoms.repeat((2, 1, 1))
    structure = rattled(atoms)
    labels = engine.calculate(structure)
    assert labels.forces[0, 0] == pytest.approx(numeric_force(engine, structure, (0, 0), 0.01), abs=5e-3)
    energies = []
    for sign in (1, -1):
        scale = 1 + sign * 0.002
        energies.append(
            engine.calculate(
                replace(structure, cell=structure.cell * scale, positions=structure.positions * scale)
            ).energy
        )
    trace = (energies[0] - energies[1]) / 0.004 / structure.volume
    assert np.trace(labels.stress) == pytest.approx(trace, abs=3e-3)


def test_forces_and_stress_of_an_ase_calculator():
    engine = make_engine("ase:ase.calculators.emt.EMT")
    structure = rattled(bulk("Cu", cubic=True))
    labels = engine.calculate(structure)
    np.testing.assert_allclose(labels.forces, numeric_forces(engine, structure), atol=1e-4)
    np.testing.assert_allclose(labels.stress, numeric_stress(engine, structure), atol=1e-5)
    assert "EMT" in engine.level_of_theory() and "ase" in engine.version()


# -- tblite ------------------------------------------------------------------------------------


@needs("gfn1")
@pytest.mark.parametrize(("engine", "method", "kelvin"), [("gfn1", "GFN1-xTB", 1500), ("gfn2", "GFN2-xTB", 300)])
def test_labels_are_those_of_tblite(engine, method, kelvin):
    from tblite.ase import TBLite

    atoms = molecule("CH3CH2OH")
    labels = make_engine(engine).calculate(Structure.from_atoms(atoms))
    atoms.calc = TBLite(method=method, verbosity=0, electronic_temperature=kelvin, accuracy=0.1)
    assert labels.energy == atoms.get_potential_energy()
    np.testing.assert_array_equal(labels.forces, atoms.get_forces())
    assert method in make_engine(engine).level_of_theory() and f"{kelvin} K" in make_engine(engine).level_of_theory()


@needs("gfn1")
def test_moments_of_ase_builders_do_not_reach_tblite():
    atoms = bulk("Fe", cubic=True).repeat(2)
    assert atoms.get_initial_magnetic_moments().any()
    atoms.pbc = False
    labels = make_engine("gfn1").calculate(Structure.from_atoms(atoms))
    assert labels.spin_multiplicity == 1


@needs("gfn1")
def test_charge_and_multiplicity_reach_tblite():
    engine, atoms = make_engine("gfn1"), molecule("CH2_s3B1d")
    states = {}
    for charge, spin in ((0, 1), (0, 3), (1, 2)):
        atoms.info.update(charge=charge, spin=spin)
        labels = engine.calculate(Structure.from_atoms(atoms))
        assert (labels.total_charge, labels.spin_multiplicity) == (charge, spin)
        states[charge, spin] = labels.energy
    assert len({round(energy, 2) for energy in states.values()}) == 3
    assert states[1, 2] > states[0, 3]


@needs("gfn1")
def test_lanthanides_have_three_valence_electrons_in_xtb():
    engine = make_engine("gfn1")
    cerium = Structure.from_atoms(Atoms("CeCl3", [[0, 0, 0], [2.6, 0, 0], [-1.3, 2.2, 0], [-1.3, -2.2, 0.5]]))
    labels = engine.calculate(cerium)  # 58 electrons in Ce, an even number with 3 Cl missing one: odd without 4f
    assert labels.spin_multiplicity is None
    with pytest.raises(Refused, match="4f electrons"):
        engine.check(Structure.from_atoms(Atoms("Ce", info={"spin": 3})))


@needs("gfn1")
def test_xtb_refuses_elements_without_parameters():
    with pytest.raises(Refused, match="element 92"):
        make_engine("gfn1").check(Structure.from_atoms(Atoms("UF6", np.random.default_rng(0).normal(size=(7, 3)) * 3)))


@needs("gfn1")
def test_an_unconverged_scf_is_no_label():
    with pytest.raises(NotConverged, match="2 iterations"):
        make_engine("gfn2", {"max_iterations": 2}).calculate(Structure.from_atoms(molecule("C6H6")))


# -- states, options, names --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("electrons", "charge", "multiplicity", "expected"),
    [(10, None, None, (0, 1)), (9, None, None, (0, 2)), (10, 1, None, (1, 2)), (8, 0, 3, (0, 3)), (3, -1, 1, (-1, 1))],
)
def test_states(electrons, charge, multiplicity, expected):
    structure = Structure(
        numbers=[1], positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=False,
        total_charge=charge, spin_multiplicity=multiplicity,
    )  # fmt: skip
    assert resolve_state(structure, electrons) == expected


@pytest.mark.parametrize(
    ("charge", "multiplicity", "words"),
    [(0.5, None, "no whole number"), (20, None, "exceeds"), (0, 2, "impossible"), (0, 13, "impossible")],
)
def test_impossible_states(charge, multiplicity, words):
    structure = Structure(
        numbers=[8], positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=False,
        total_charge=charge, spin_multiplicity=multiplicity,
    )  # fmt: skip
    with pytest.raises(Refused, match=words):
        resolve_state(structure, 8)


def test_names_and_options():
    with pytest.raises(LamError, match="Did you mean 'gfn1'"):
        make_engine("gfn11")
    with pytest.raises(LamError, match=r"write ase:module.Class"):
        make_engine("ase:EMT")
    with pytest.raises(LamError, match=r"Cannot import the calculator 'ase.calculators.emt.NoSuch'"):
        make_engine("ase:ase.calculators.emt.NoSuch")
    assert {info.name for info in ENGINES} == {"gfn1", "gfn2", "gpaw", "pyscf"}


@needs("gfn1")
def test_unknown_options_name_the_nearest():
    with pytest.raises(LamError, match="temperature"):
        make_engine("gfn1", {"temprature": 300})


@pytest.mark.parametrize("name", [info.name for info in ENGINES])
def test_a_missing_package_is_a_sentence(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(LamError, match="install it with: pip install"):
        make_engine(name)


def test_a_small_cutoff_is_refused(monkeypatch):
    from lam.label.engine_gpaw import GPAW

    with pytest.raises(LamError, match="at least 600 eV"):
        GPAW("gpaw", {"cutoff": 400})
    assert GPAW("gpaw").cutoff == 800 and GPAW("gpaw", {"stress": False}).cutoff == 600


def test_what_gpaw_is_told():
    """No GPAW needed: the keywords are made before it is imported."""
    from lam.label.engine_gpaw import GPAW

    engine = GPAW("gpaw", {"kpoint_density": 2.0})
    atoms, keywords = engine._prepare(Structure.from_atoms(bulk("Si")))
    assert keywords["mode"] == {"name": "pw", "ecut": 800.0} and keywords["kpts"] == {"density": 2.0, "gamma": True}
    assert "spinpol" not in keywords

    atoms, keywords = engine._prepare(Structure.from_atoms(bulk("Fe")))
    assert keywords["spinpol"] and atoms.get_initial_magnetic_moments()[0] > 0

    oxygen = molecule("O2")
    oxygen.info["spin"] = 3
    atoms, keywords = engine._prepare(Structure.from_atoms(oxygen))
    assert keywords["occupations"]["fixmagmom"] and atoms.get_initial_magnetic_moments().sum() == pytest.approx(2)
    assert keywords["kpts"]["size"] == [1, 1, 1] and atoms.cell.lengths().min() >= 12

    for symbol, words in (("Tc", "no setup"), ("Na", "pyscf or gfn1")):
        with pytest.raises(Refused, match=words):
            engine.check(Structure.from_atoms(Atoms(symbol, info={"charge": 1})))


# -- any ASE calculator ------------------------------------------------------------------------


def test_placeholders_carry_the_state():
    engine = make_engine("ase:fakes.State", {"charge": "{charge}", "mult": "{multiplicity}"})
    for charge, spin in ((0, 1), (2, 1), (-1, 2)):
        structure = Structure.from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={"charge": charge, "spin": spin}))
        engine.check(structure)
        labels = engine.calculate(structure)
        assert labels.energy == 10 * charge + spin and labels.total_charge == charge


def test_a_calculator_that_is_not_told_of_a_charge_is_refused():
    charged = Structure.from_atoms(Atoms("H", info={"charge": 1}))
    with pytest.raises(Refused, match=r"charge=\{charge\}"):
        make_engine("ase:fakes.Springs").check(charged)
    with pytest.raises(Refused, match="multiplicity 2 is stated"):
        make_engine("ase:fakes.State", {"charge": "{charge}"}).check(Structure.from_atoms(Atoms("H", info={"spin": 2})))
    make_engine("ase:fakes.Springs", {"state": "ignore"}).check(charged)
    make_engine("ase:fakes.Springs", {"state": "info"}).check(charged)
    make_engine("ase:fakes.Springs").check(Structure.from_atoms(Atoms("H", info={"charge": 0})))


def test_the_free_energy_is_stored_and_convergence_asked_for():
    engine = make_engine("ase:fakes.FreeEnergy")
    labels = engine.calculate(Structure.from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 2]])))
    assert labels.energy == pytest.approx(0.5)
    with pytest.raises(NotConverged):
        engine.calculate(Structure.from_atoms(Atoms("Ar2", [[0, 0, 0], [0, 0, 2]])))
