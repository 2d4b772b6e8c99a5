"""The inference engine gives the numbers of the model itself, whatever the structure, the weights and the blocks."""

import copy
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from lam.calculators import LAMCalculator, Predictor
from lam.calculators.calculator import bare
from lam.data.structure import Structure
from lam.errors import LamError
from lam.model import PRESETS, Potential
from lam.model.kernels import use
from lam.testing import sample_structures, tiny_heads, tiny_potential

TINY = {"channels": 12, "scalar_channels": 10, "readout_channels": 6}
ODD = {"l_max": 2, "radial_functions": 5, "sender_channels": 6, "tensor_channels": 3, "channels": 7}
SHAPES = {
    "nano": ("nano", {}),
    "two layers": ("small", TINY),
    "three layers": ("base", TINY | {"sender_channels": 8, "tensor_channels": 8}),
    "odd sizes": ("small", TINY | ODD),
    "low degree": ("nano", {"l_max": 1, "radial_functions": 3, "channels": 5}),
    "without repulsion": ("nano", {"zbl": False}),
    "four densities": ("small", TINY | {"fourth_order": True}),
}


def random_potential(shape: str) -> Potential:
    """Return a potential all of whose weights count, also those that start at zero."""
    name, changes = SHAPES[shape]
    model = tiny_potential(PRESETS[name].model_copy(update=changes))
    torch.manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def structures() -> list[Structure]:
    frames = list(sample_structures(("O", "H", "C")).values())
    frames[0].info.update(charge=1, spin=2)
    frames.append(Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.4]]))  # within the repulsion
    frames.append(Atoms("O2H", positions=[[0, 0, 0], [50, 0, 0], [0, 50, 0]]))  # no neighbours
    return [Structure.from_atoms(bare(atoms)) for atoms in frames]


def assert_equal(got, want, tolerance):
    scale = max(np.abs(want.forces).max(), 1e-2)
    assert got.head == want.head
    assert got.energy == pytest.approx(want.energy, abs=10 * tolerance * max(scale, 1.0), rel=1e-14)
    energies = want.atom_energies
    np.testing.assert_allclose(got.atom_energies, energies, atol=10 * tolerance * max(scale, 1.0), rtol=1e-14)
    np.testing.assert_allclose(got.forces, want.forces, atol=tolerance * scale, rtol=0)
    assert (got.stress is None) == (want.stress is None)
    if want.stress is not None:
        np.testing.assert_allclose(got.stress, want.stress, atol=tolerance * max(np.abs(want.stress).max(), 1e-5))


@pytest.mark.filterwarnings("ignore::lam.errors.LamWarning")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_numbers_are_the_models(shape, dtype, tolerance):
    model = random_potential(shape)
    fast, plain = Predictor(model, head="mol", dtype=dtype), Predictor(model, head="mol", dtype=dtype, kernels="torch")
    wanted = plain.predict(structures())
    assert max(np.abs(prediction.forces).max() for prediction in wanted) > 1e-3
    for structure, want in zip(structures(), wanted, strict=True):
        assert_equal(fast.predict([structure])[0], want, tolerance)
    for got, want in zip(fast.predict(structures()), wanted, strict=True):
        assert_equal(got, want, tolerance)
    assert (fast.kernels_used, plain.kernels_used) == ("numba", "torch")


@pytest.mark.filterwarnings("ignore::lam.errors.LamWarning")
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
def test_neither_blocks_nor_threads_nor_what_is_kept_matter(keep, parts, monkeypatch):
    model = random_potential("two layers")
    crystal = bulk("Cu", cubic=True) * (2, 2, 1)
    crystal.rattle(0.1, seed=1)
    frame = Structure.from_atoms(crystal)
    want = Predictor(model, head="cryst", dtype="float64", kernels="torch").predict([frame])[0]
    fast = Predictor(model, head="cryst", dtype="float64")
    fast.predict([frame])
    fast._fast._engine.block_atoms = 3
    fast._fast._engine.keep_bytes = 10**9 if keep else 0
    monkeypatch.setattr("lam.calculators.passes.MOST_THREADS", parts)
    monkeypatch.setattr("lam.calculators.passes.WORTH_A_THREAD", 1)
    assert_equal(fast.predict([frame])[0], want, 1e-12)


def test_more_elements_than_the_first_layer_has_kernels_for():
    elements = dict.fromkeys(("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"), 1)
    model = tiny_potential(PRESETS["nano"], [tiny_heads()[0].model_copy(update={"elements": elements})])
    for symbols in ("HCN", "HCNOF", "HCNOFPSClBrI"):
        atoms = Atoms(symbols)
        atoms.positions = np.random.default_rng(0).normal(size=(len(atoms), 3)) * 2
        frame = Structure.from_atoms(atoms)
        want = Predictor(model, dtype="float64", kernels="torch").predict([frame])[0]
        assert_equal(Predictor(model, dtype="float64").predict([frame])[0], want, 1e-12)


def test_results_do_not_change_later():
    """What a call returned is not overwritten by the next one, which reuses memory."""
    calculator = LAMCalculator(random_potential("two layers"))
    atoms = bulk("Cu", cubic=True)
    atoms.calc = calculator
    first = [atoms.get_forces(), atoms.get_potential_energies(), atoms.get_stress()]
    copies = copy.deepcopy(first)
    atoms.rattle(0.1, seed=0)
    atoms.get_forces()
    for before, now in zip(copies, first, strict=True):
        assert np.array_equal(before, now)


def test_another_structure_state_or_head_is_not_taken_for_the_last():
    model = random_potential("nano")
    calculator, single = LAMCalculator(model, dtype="float64"), lambda: LAMCalculator(model, dtype="float64")
    at = [[0, 0, 0], [0, 0, 1]]
    frames = [Atoms(symbols, at) for symbols in ("OH", "HO", "OH", "OH")]
    frames.append(Atoms("OH", at, cell=[3, 3, 3], pbc=True))
    frames[2].info["charge"], frames[3].info["spin"] = 1, 2
    energies = []
    for atoms in [*frames, frames[0]]:
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        atoms.calc = single()
        assert atoms.get_potential_energy() == pytest.approx(energies[-1], abs=1e-12)
    assert energies[-1] == energies[0] and len(set(np.round(energies, 6))) == 4  # OH and HO are the same


def test_kernels_can_be_forced_and_are_named():
    model = tiny_potential()
    atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])
    for asked, used in (("auto", "numba"), ("numba", "numba"), ("torch", "torch")):
        atoms.calc = LAMCalculator(model, kernels=asked, device="cpu")
        assert atoms.calc.kernels_used is None
        atoms.get_forces()
        assert atoms.calc.kernels_used == used
    with use("torch"):
        atoms.calc = LAMCalculator(model)
        atoms.get_forces()
        assert atoms.calc.kernels_used == "torch"
    atoms.calc = LAMCalculator(model, kernels="triton", device="cpu")
    with pytest.raises(LamError, match=r"triton.*cuda"):
        atoms.get_forces()
    with pytest.raises(LamError, match=r"kernels.*'cuda'.*numba"):
        LAMCalculator(model, kernels="cuda")


def test_read_only_and_strided_positions():
    model = random_potential("nano")
    frame = structures()[0]
    want = Predictor(model, head="mol").predict([frame])[0]
    fixed = frame.positions.copy()
    fixed.flags.writeable = False
    strided = np.asfortranarray(frame.positions)
    for positions in (fixed, strided):
        given = dataclasses.replace(frame, positions=positions)
        assert np.array_equal(Predictor(model, head="mol").predict([given])[0].forces, want.forces)


def test_copies_and_other_processes():
    predictor = Predictor(random_potential("nano"), head="mol")
    frame = structures()[1]
    want = predictor.predict([frame])[0]
    assert np.array_equal(copy.deepcopy(predictor).predict([frame])[0].forces, want.forces)


def test_pytorchs_threads_are_left_alone():
    before = torch.get_num_threads()
    Predictor(random_potential("nano"), head="mol").predict(structures())
    assert torch.get_num_threads() == before


_MEMORY = """
import resource, sys
import numpy as np
from ase.build import bulk
from lam.calculators import LAMCalculator
from lam.model import PRESETS
from lam.testing import tiny_potential
atoms = bulk("Cu", cubic=True)
calculator = LAMCalculator(tiny_potential(PRESETS["nano"]))
def peak(repeats):
    atoms = bulk("Cu", cubic=True).repeat(repeats)
    atoms.calc = calculator
    assert np.isfinite(atoms.get_forces()).all()
    return len(atoms), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small, before = peak((4, 4, 4))
large, after = peak((20, 16, 16))
print((after - before) / (large - small))
"""


def test_memory_grows_with_the_atoms_only():
    """All of it, neighbours included, is less than what one array of the features of every atom would take."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _MEMORY], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 12.0  # KiB per atom; 42 neighbours take 3, a density of 16 x 128 numbers 8
