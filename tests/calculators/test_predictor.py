"""Batched prediction equals one by one, in order, whatever the batch size."""

import numpy as np
import pytest

from lam.calculators import Predictor
from lam.calculators.calculator import bare
from lam.data.structure import Structure
from lam.testing import sample_structures, tiny_potential


@pytest.mark.parametrize("batch_atoms", [1, 12, 10_000])
def test_stream(batch_atoms):
    predictor = Predictor(tiny_potential(), dtype="float64", head="mol")
    structures = [Structure.from_atoms(bare(atoms)) for atoms in sample_structures(("O", "H", "C")).values()]
    sizes = []
    inner = predictor.predict
    predictor.predict = lambda batch: sizes.append(len(batch)) or inner(batch)
    results = list(predictor.predict_stream(iter(structures), batch_atoms=batch_atoms))
    assert [structure for structure, _ in results] == structures
    assert sum(sizes) == len(structures)
    assert (max(sizes) == 1) == (batch_atoms == 1) and (len(sizes) == 1) == (batch_atoms == 10_000)
    for structure, prediction in results:
        alone = inner([structure])[0]
        assert prediction.energy == pytest.approx(alone.energy, abs=1e-10)
        np.testing.assert_allclose(prediction.forces, alone.forces, atol=1e-12)
        assert prediction.forces.shape == (len(structure), 3)
        assert prediction.atom_energies.sum() == pytest.approx(prediction.energy)
        assert (prediction.stress is None) == (not structure.pbc.all())


def test_nothing_in_nothing_out():
    assert Predictor(tiny_potential()).predict([]) == []
