"""Outputs of real calculations, which ASE installs with its own tests: our readers against ASE's."""

import warnings
from importlib import import_module
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress
from recipe_tools import structures

from lam.data.recipes import get

FOLDER = Path(ase.io.__file__).parents[1] / "test" / "testdata" / "aims"


def _compare(recipe, path, form, *, energy=1e-9):
    """Assert that both read the same; ASE's units of Quantum ESPRESSO differ in the seventh digit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps left out: ASE does not have them either
        found = structures(get(recipe), path)
        expected = ase.io.read(path, index=":", format=form)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        results = other.calc.results
        np.testing.assert_array_equal(one.numbers, other.numbers)
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-6)
        np.testing.assert_allclose(one.cell, np.array(other.cell), atol=1e-5)
        assert one.energy == pytest.approx(results.get("free_energy", results["energy"]), rel=energy)
        if "forces" in results:
            np.testing.assert_allclose(one.forces, results["forces"], rtol=1e-6, atol=1e-9)
        if "stress" in results and one.stress is not None:
            np.testing.assert_allclose(one.stress, voigt_6_to_full_3x3_stress(results["stress"]), rtol=1e-5, atol=1e-9)
    return found


@pytest.mark.parametrize("name", ["md", "relax", "singlepoint", "socket", "DFPT_dielectric"])
def test_aims(name):
    path = FOLDER / f"{name}.out"
    if not path.is_file():
        pytest.skip("this ASE has no such file")
    found = _compare("fhi-aims", path, "aims-output")
    assert all(one.total_charge == 0 for one in found)


@pytest.mark.parametrize("name", ["pw_output_text", "pw_output_cell"])
def test_espresso(tmp_path, name):
    module = pytest.importorskip("ase.test.fio.test_espresso")
    if not hasattr(module, name):
        pytest.skip("this ASE has no such output")
    path = tmp_path / "job.pwo"
    path.write_text(getattr(module, name))
    _compare("espresso", path, "espresso-out", energy=1e-6)


def test_gaussian(tmp_path):
    try:
        source = Path(import_module("ase.test.fio.test_gaussian_out").__file__).read_text(encoding="utf-8")
    except ImportError:
        pytest.skip("this ASE has no such output")
    text = max(source.split('"""'), key=len)
    path = tmp_path / "job.log"
    path.write_text(text)
    _compare("gaussian", path, "gaussian-out")
