"""The symmetry of cells that were written to files; GPAW itself is not needed."""

import sys
import types

import numpy as np
import pytest
from ase.build import bulk

from lam.data.structure import Structure
from lam.label.engine_gpaw import GPAW, SYMMETRY


class SymmetryAnalysisBug(Exception):
    """Named as GPAW's."""


@pytest.fixture
def told(monkeypatch):
    """Return a list of the symmetries that a made-up GPAW is asked for; it manages those in ``told.works`` only."""

    class Told(list):
        works = SYMMETRY

    asked = Told()

    class Calculator:
        def __init__(self, *, symmetry, **keywords):
            self.symmetry = symmetry
            asked.append(symmetry)

        def get_potential_energy(self, atoms, force_consistent=False):
            assert force_consistent  # the free energy
            if self.symmetry not in asked.works:
                raise SymmetryAnalysisBug
            return -3.0

        def get_forces(self, atoms):
            return np.zeros((len(atoms), 3))

        def get_stress(self, atoms):
            return np.zeros(6)

    module = types.SimpleNamespace(GPAW=Calculator, KohnShamConvergenceError=ArithmeticError)
    monkeypatch.setitem(sys.modules, "gpaw", module)
    return asked


def test_symmetry_is_looked_for_within_the_decimals_of_a_file(told):
    labels = GPAW("gpaw").calculate(Structure.from_atoms(bulk("Al")))
    assert labels.energy == -3.0 and labels.stress.shape == (3, 3)
    assert len(told) == 1 and told[0]["tolerance"] >= 1e-5


def test_half_a_group_of_symmetries_is_no_failure(told):
    told.works = SYMMETRY[-1:]
    assert GPAW("gpaw").calculate(Structure.from_atoms(bulk("Al"))).energy == -3.0
    assert told == list(SYMMETRY) and told[-1] == {"point_group": False}


def test_other_errors_are_told(told):
    told.works = ()
    with pytest.raises(SymmetryAnalysisBug):
        GPAW("gpaw").calculate(Structure.from_atoms(bulk("Al")))
