"""The shipped physics suite, applied to every preset with random weights and to the shipped model."""

import pytest
import torch

from lam.checkpoint import available, load
from lam.model import PRESETS, HeadInfo, Potential
from lam.testing import PotentialPhysicsTests, evaluator
from lam.testing.physics import check_repulsion

ELEMENTS = ("O", "H", "C", "Si", "Cu")
HEADS = [
    HeadInfo(
        name="molecules",
        elements=dict.fromkeys(ELEMENTS, 1),
        reference_energies={"O": -2041.3, "H": -13.6, "C": -1029.5, "Si": -7870.1, "Cu": -45000.7},
        molecular=True,
        charges=[0.0, 1.0],
        spin_multiplicities=[1.0, 2.0, 3.0],
    ),
    HeadInfo(
        name="crystals",
        elements=dict.fromkeys(ELEMENTS, 1),
        reference_energies={"O": -4.1, "Cu": -3.7},
        energy_scale=0.7,
        periodic=True,
    ),
]


def random_potential(preset: str, **changes: object) -> Potential:
    torch.manual_seed(7)
    config = PRESETS[preset].model_copy(update=changes)
    return Potential(config, HEADS)


class TestNano(PotentialPhysicsTests):
    dimer_elements = ELEMENTS

    def make_potential(self):
        return random_potential("nano")


# Random weights: the forces are small differences of what the layers carry, so rounding weighs more than in a
# trained model (TestShipped keeps the suite's bound).
RANDOM_LAYERS = {"float32": 2e-5, "float64": 1e-10}


class TestSmall(PotentialPhysicsTests):
    rtol = RANDOM_LAYERS

    def make_potential(self):
        return random_potential("small", channels=24, scalar_channels=24)


class TestBase(PotentialPhysicsTests):
    rtol = RANDOM_LAYERS

    def make_potential(self):
        return random_potential("base", channels=16, scalar_channels=24, sender_channels=8, tensor_channels=8)


@pytest.mark.skipif("lam-nano" not in available(), reason="lam-nano does not ship yet")
class TestShipped(PotentialPhysicsTests):
    charge_matters = False  # it may have seen neutral structures only

    def make_potential(self):
        return load("lam-nano")

    def test_dimers_repel(self):
        model = self.make_potential()
        for head in model.heads:
            symbols = list(head.elements)
            pairs = [(first, second) for i, first in enumerate(symbols) for second in symbols[i:]]
            evaluate = evaluator(model, head=head.name, dtype="float32")
            check_repulsion(evaluate, pairs, fractions=self.repulsion_fractions)
