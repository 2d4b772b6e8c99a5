"""The ASE calculator: its numbers are the model's, it sees charge and spin, it refuses what cannot be used."""

import copy
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write
from ase.optimize import BFGS
from ase.stress import full_3x3_to_voigt_6_stress

from lam.calculators import LAMCalculator, Predictor
from lam.checkpoint import CheckpointMetadata, save_checkpoint
from lam.data.graph import build_graph, collate
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning
from lam.testing import tiny_potential


@pytest.fixture
def model():
    return tiny_potential()


@pytest.fixture
def calculator(model):
    return LAMCalculator(model, dtype="float64")


def water(calculator, **info) -> Atoms:
    atoms = molecule("H2O")
    atoms.info.update(info)
    atoms.calc = calculator
    return atoms


def silicon(calculator) -> Atoms:
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=1)
    atoms.calc = calculator
    return atoms


def direct(model, atoms: Atoms, head: str) -> dict:
    model = copy.deepcopy(model).double()
    structure = Structure.from_atoms(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
    graph = build_graph(structure, cutoff=model.cutoff, task=model.head_index(head), dtype=torch.float64)
    return {key: value.detach().numpy() for key, value in model(collate([graph])).items()}


def test_numbers_are_the_models(model, calculator):
    atoms = silicon(calculator)
    want = direct(model, atoms, "cryst")
    assert atoms.get_potential_energy() == pytest.approx(want["energy"][0], abs=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), want["forces"], atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies(), want["atom_energies"], atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(), full_3x3_to_voigt_6_stress(want["stress"][0]), atol=1e-12)
    assert np.abs(atoms.get_forces()).max() > 1e-3 and np.abs(atoms.get_stress()).max() > 1e-5


def test_the_head_is_chosen_by_the_structure_or_by_name(model, calculator):
    assert calculator.head_used is None
    silicon(calculator).get_potential_energy()
    assert calculator.head_used == "cryst"
    water(calculator).get_potential_energy()
    assert calculator.head_used == "mol"
    oxygen = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.2]])
    energies = {}
    for head in ("mol", "cryst"):
        oxygen.calc = LAMCalculator(model, head=head)
        energies[head] = oxygen.get_potential_energy()
    assert energies["cryst"] - energies["mol"] > 1000  # the heads' reference energies


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"charge": 0}, {"charge": 1}),
        ({"spin": 1}, {"spin": 2}),
        ({"total_charge": 0}, {"total_charge": 1}),
        ({"spin_multiplicity": 1}, {"spin_multiplicity": 2}),
        ({"total_spin": 1}, {"total_spin": 2}),
    ],
)
def test_a_change_of_charge_or_spin_recomputes(calculator, first, second):
    atoms = water(calculator, **first)
    before = atoms.get_potential_energy()
    assert before == water(calculator).get_potential_energy()
    atoms.get_potential_energy()
    atoms.info.update(second)
    assert calculator.calculation_required(atoms, ["energy"])
    assert atoms.get_potential_energy() != before
    atoms.info.update(first)
    assert atoms.get_potential_energy() == before


def test_nothing_is_recomputed_without_need(calculator, monkeypatch):
    calls = []
    inner = Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda self, items: calls.append(1) or inner(self, items))
    atoms = water(calculator, charge=0)
    atoms.get_forces()
    atoms.get_potential_energy()
    atoms.info["comment"] = "irrelevant"
    atoms.info["total_charge"] = 0.0  # the same in another dialect
    atoms.set_initial_magnetic_moments([1, 0, 0])
    atoms.get_potential_energies()
    assert len(calls) == 1
    atoms.positions[0, 0] += 0.01
    atoms.get_forces()
    assert len(calls) == 2


def test_the_users_atoms_are_not_changed(calculator):
    atoms = silicon(calculator)
    atoms.positions += 40.0  # far outside of the cell
    atoms.info.update(charge=0, energy=np.nan, note="mine")
    before = atoms.copy()
    atoms.get_stress()
    assert atoms.info.keys() == before.info.keys()
    assert np.array_equal(atoms.positions, before.positions) and np.array_equal(atoms.cell, before.cell)
    assert set(atoms.arrays) == set(before.arrays)


def test_the_users_model_is_not_changed(model):
    model.train()
    LAMCalculator(model, dtype="float64")
    assert model.dtype == torch.float32 and model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_model_by_path_and_precision(model, tmp_path):
    save_checkpoint(tmp_path / "m", model, metadata=CheckpointMetadata(name="m"))
    by_path = water(LAMCalculator(tmp_path / "m"))
    double = water(LAMCalculator(str(tmp_path / "m"), dtype="float64"))
    assert by_path.calc.model.dtype == torch.float32 and double.calc.model.dtype == torch.float64
    np.testing.assert_allclose(by_path.get_forces(), double.get_forces(), atol=1e-4)
    assert (by_path.get_forces() != double.get_forces()).any()
    assert by_path.calc.todict() == {"model": "m", "head": "mol"}


def test_stress_needs_three_periodic_directions(calculator):
    slab = fcc111("Cu", (1, 1, 2), vacuum=5.0)
    slab.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="periodic in three directions"):
        slab.get_stress()
    assert np.isfinite(slab.get_forces()).all()
    slab.pbc = True
    assert slab.get_stress().shape == (6,)


def test_ase_clients_work(calculator, tmp_path):
    atoms = water(calculator, charge=1, spin=2)
    atoms.rattle(0.05, seed=0)
    start = atoms.get_potential_energy()
    BFGS(atoms, logfile=None, trajectory=str(tmp_path / "run.traj")).run(fmax=1e-3, steps=20)
    assert atoms.get_potential_energy() < start
    last = read(tmp_path / "run.traj")
    assert last.get_potential_energy() == pytest.approx(atoms.get_potential_energy())
    write(tmp_path / "out.extxyz", atoms)
    np.testing.assert_allclose(read(tmp_path / "out.extxyz").get_forces(), atoms.get_forces(), atol=1e-7)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms(), ["no atoms"]),
        (Atoms("H2", positions=[[0, 0, 0], [0, 0, np.nan]]), ["NaN", "positions"]),
        (Atoms("Cu", pbc=True), ["pbc", "cell"]),
        (Atoms("Cu", cell=[3, 3, 0], pbc=True), ["cell"]),
        (Atoms("XeH", positions=[[0, 0, 0], [0, 0, 2]]), ["Xe", "no head"]),
        (Atoms("HSi", positions=[[0, 0, 0], [0, 0, 2]]), ["Name a head"]),
        (Atoms("H", info={"charge": "many"}), ["charge", "many"]),
        (Atoms("H", info={"spin": -1}), ["multiplicity"]),
    ],
)
def test_what_cannot_be_used_is_refused(calculator, atoms, words):
    atoms.calc = calculator
    with pytest.raises(LamError) as caught:
        atoms.get_potential_energy()
    assert all(word.lower() in str(caught.value).lower() for word in words), str(caught.value)
    # and the calculator goes on working, with nothing left of the failure
    assert np.isfinite(water(calculator).get_potential_energy())


def test_wrong_arguments(model):
    with pytest.raises(LamError, match=r"no head 'mool'.*'mol'.*Known: mol, cryst"):
        LAMCalculator(model, head="mool")
    with pytest.raises(LamError, match="float32"):
        LAMCalculator(model, dtype="half")
    with pytest.raises(LamError, match=r"device 'warp:9'"):
        LAMCalculator(model, device="warp:9")
    with pytest.raises(LamError, match="no model 'lam-nanno'"):
        LAMCalculator("lam-nanno")


def test_overlapping_atoms_warn_and_stay_finite(calculator):
    for distance in (0.0, 1e-3, 0.05):
        atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, distance]], calculator=calculator)
        with pytest.warns(LamWarning, match="Angstrom apart"):
            assert np.isfinite(atoms.get_potential_energy())
        assert np.isfinite(atoms.get_forces()).all()


def test_a_charge_the_head_never_saw_warns_once(calculator):
    with pytest.warns(LamWarning, match=r"total charge is -2.*'mol' was trained on 0, 1 only"):
        water(calculator, charge=-2).get_potential_energy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        water(calculator, charge=-2).get_potential_energy()
        water(calculator, charge=1, spin=2).get_potential_energy()
        water(calculator).get_potential_energy()


def test_a_head_trained_on_ions_only_warns_where_no_charge_is_stated():
    heads = [head.model_copy(update={"charges": [-1.0]}) for head in tiny_potential().heads[:1]]
    atoms = water(LAMCalculator(tiny_potential(heads=heads)))
    with pytest.warns(LamWarning, match=r"not stated, taken as 0.*trained on -1 only"):
        atoms.get_potential_energy()


def test_a_named_head_without_the_element_warns_and_says_who_has_it(model):
    atoms = silicon(LAMCalculator(model, head="mol"))
    with pytest.warns(LamWarning, match=r"'mol' has no Si.*cryst"):
        assert np.isfinite(atoms.get_potential_energy())
