"""Muon: orthogonal steps for matrices, AdamW for the rest, resumed exactly."""

import copy

import pytest
import torch
from making import TINY
from torch import nn

from lam.model import HeadInfo, ModelConfig, Potential
from lam.train.config import OptimizerSection
from lam.train.muon import Muon, orthogonalize
from lam.train.run import pretrain
from lam.train.schedule import build_optimizer
from lam.train.state_io import SafetensorsCheckpointIO

MUON = OptimizerSection(kind="muon", learning_rate=0.01, weight_decay=0.1)


@pytest.mark.parametrize("shape", [(6, 6), (5, 40), (40, 5), (3, 8, 12), (3, 12, 8), (1, 7)])
def test_singular_values_become_about_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    [found] = orthogonalize([matrix])
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6 and values.max() < 1.25
    # The singular vectors stay: found = U f(S) V^T has a symmetric positive product with U V^T.
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    core = u.transpose(-1, -2) @ found @ v.transpose(-1, -2)
    assert torch.allclose(core, torch.diag_embed(core.diagonal(dim1=-2, dim2=-1)), atol=1e-8)


def test_each_matrix_of_a_stack_and_of_a_list_by_itself():
    torch.manual_seed(0)
    one, two, three = torch.randn(4, 6), torch.randn(6, 4), 1e-3 * torch.randn(2, 4, 6)
    together = orthogonalize([one, torch.zeros(4, 6), two, three])
    assert torch.allclose(together[0], orthogonalize([one])[0], atol=1e-6)
    assert torch.allclose(together[2], orthogonalize([two.T])[0].T, atol=1e-6)
    assert torch.allclose(together[3][1], orthogonalize([three[1]])[0], atol=1e-6)
    assert not together[1].any()


def test_the_size_of_a_step_does_not_depend_on_the_size_of_the_gradient():
    start = torch.randn(8, 12)
    moved = []
    for scale in (1e-6, 1.0, 1e6):
        weight = nn.Parameter(start.clone())
        weight.grad = scale * torch.linspace(-1, 1, 96).view(8, 12).sin()
        Muon([{"params": [weight], "orthogonal": True}], lr=0.1).step()
        moved.append(weight.detach() - start)
    assert torch.allclose(moved[0], moved[1], atol=1e-4) and torch.allclose(moved[1], moved[2], atol=1e-4)
    assert moved[0].abs().max() > 0.01


def test_other_groups_are_adamw():
    torch.manual_seed(0)
    one = nn.Parameter(torch.randn(5))
    two = nn.Parameter(one.detach().clone())
    muon = Muon([{"params": [one], "weight_decay": 0.1, "rate": 0.5}], lr=0.02, betas=(0.9, 0.98))
    adamw = torch.optim.AdamW([two], lr=0.01, weight_decay=0.1, betas=(0.9, 0.98))
    for _ in range(5):
        one.grad = torch.randn(5)
        two.grad = one.grad.clone()
        muon.step()
        adamw.step()
    assert torch.allclose(one, two, atol=1e-7)


def test_vectors_cannot_be_orthogonalised():
    with pytest.raises(ValueError, match="only matrices"):
        Muon([{"params": [nn.Parameter(torch.ones(3))], "orthogonal": True}], lr=0.1)


def test_what_muon_is_for():
    model = Potential(
        ModelConfig.parse({**TINY, "n_layers": 2, "l_max": 2, "tensor_channels": 4}), [HeadInfo(name="a")]
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model.named_parameters(), MUON)
    orthogonal, inputs, free = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["orthogonal"] for group in optimizer.param_groups] == [True, False, False]
    assert "backbone.layers.0.product.partner.weight" in orthogonal
    assert "backbone.layers.1.update.weight" in orthogonal
    assert all("charge_spin" in name for name in inputs) and inputs
    assert {"backbone.element.weight", "readout.weight", "backbone.layers.0.update.bias"} <= free
    assert not any("readout" in name or "element" in name or "bias" in name for name in orthogonal)
    assert orthogonal | inputs | free == set(names.values())


def test_state_round_trip(tmp_path):
    """An optimiser that is saved, written and read back takes bitwise the same steps."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(3, 6, 4)), nn.Parameter(torch.randn(4))]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(6)]

    def steps(parameters, optimizer, some):
        for each in some:
            for parameter, gradient in zip(parameters, each, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()

    def make(parameters):
        return Muon([{"params": parameters[:1], "orthogonal": True}, {"params": parameters[1:]}], lr=0.05)

    whole = copy.deepcopy(weights)
    steps(whole, make(whole), gradients)
    first = make(weights)
    steps(weights, first, gradients[:3])
    SafetensorsCheckpointIO().save_checkpoint(first.state_dict(), tmp_path / "o.ckpt")
    second = make(weights)
    second.load_state_dict(SafetensorsCheckpointIO().load_checkpoint(tmp_path / "o.ckpt"))
    steps(weights, second, gradients[3:])
    assert all(torch.equal(one, two) for one, two in zip(whole, weights, strict=True))


def test_training_learns(settings):
    result = pretrain(settings(steps=40, optimizer={"kind": "muon", "learning_rate": 0.01}))
    log = (result.parent / "log" / "metrics.csv").read_text().splitlines()
    column = log[0].split(",").index("train/forces")
    values = [float(line.split(",")[column]) for line in log[1:] if line.split(",")[column]]
    assert values[-1] < 0.8 * values[0]
