"""Fused operators at the atoms against plain PyTorch, to the derivatives that training needs and beyond."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lam.model import ModelConfig
from lam.model.kernels import node_ops, use
from lam.model.layer import soft_normalize
from lam.model.product import NodeProduct


def features(*shape: int, seed: int) -> Tensor:
    """Return random features that require a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def derivatives(function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor], orders: int = 3) -> list[Tensor]:
    """Return values and the gradients of random projections, of these, and of those."""
    found, total = [], None
    for order in range(orders + 1):
        if order == 0:
            values = list(function(*inputs))
        else:
            values = list(torch.autograd.grad(total, inputs, create_graph=True, materialize_grads=True))
        found += values
        total = sum((v * features(*v.shape, seed=10 * order + k).detach()).sum() for k, v in enumerate(values))
    return found


@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("n_atoms", [0, 1, 7])
@pytest.mark.parametrize("fourth_order", [False, True])
def test_product_and_invariants(l_max: int, n_atoms: int, fourth_order: bool) -> None:
    torch.manual_seed(0)
    product = NodeProduct(l_max, 6, fourth_order=fourth_order).double()
    inputs = [features((l_max + 1) ** 2, n_atoms, 6, seed=1)]
    got = derivatives(product, inputs)
    with use("torch"):
        want = derivatives(product, inputs)
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-9)


def test_normalisation() -> None:
    inputs = [features(16, 5, 9, seed=2)]
    got = derivatives(lambda x: (soft_normalize(x),), inputs, orders=2)
    with use("torch"):
        want = derivatives(lambda x: (soft_normalize(x),), inputs, orders=2)
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n_atoms", [0, 1, 40])
def test_gate(n_atoms: int) -> None:
    inputs = [features(9, n_atoms, 14, seed=5), features(n_atoms, 14, seed=6)]
    got = derivatives(lambda x, opening: (node_ops.gate(x, opening).square(),), inputs)
    want = derivatives(lambda x, opening: ((x * (1.0 + opening)).square(),), inputs)
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-9)


def test_gate_where_the_gradient_of_the_opening_is_not_used() -> None:
    x, opening, g = features(4, 5, 6, seed=1), features(5, 6, seed=2), features(4, 5, 6, seed=3)
    pulled = torch.autograd.grad(node_ops.gate(x, opening), x, g, create_graph=True)[0]
    got = torch.autograd.grad(pulled.square().sum(), (opening, g))
    want = torch.autograd.grad((g * (1.0 + opening)).square().sum(), (opening, g))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [7, 64, 600])  # below, within and beyond what is worked on at once
def test_widths_and_rests(width: int) -> None:
    a, b, p, c = (features(4, 11, width, seed=k).detach() for k in range(4))
    scale = torch.tensor([1.0, 3.0**-0.5], dtype=torch.float64)[:, None, None]
    pairs = [torch.stack([(x * y)[:1].sum(0), (x * y)[1:].sum(0)]) * scale for x, y in ((a, b), (p, b), (p, c))]
    want = torch.cat([a[:1], *pairs]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(node_ops.invariants(a, b, p, c), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(node_ops.pair(a, b, p, c), torch.stack(pairs), rtol=1e-12, atol=1e-12)
    normalized = a / (1.0 + a.square().mean(dim=(0, 2))).sqrt()[None, :, None]
    torch.testing.assert_close(node_ops.norm(a), normalized, rtol=1e-12, atol=1e-12)


def test_operators_are_well_formed() -> None:
    a, b, p, c = (features(4, 3, 5, seed=k) for k in range(4))
    opening = features(3, 5, seed=8)
    for operator, arguments in (
        (node_ops.couple, (a, b)),
        (node_ops.gate, (a, opening)),
        (node_ops.gate_adjoint, (a, opening, p)),
        (node_ops.invariants, (a, b, p, c)),
        (node_ops.invariants_adjoint, (features(3, 35, seed=7), a, b, p, c, True)),
        (node_ops.norm_adjoint, (a, b)),
    ):
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


def test_strided_features() -> None:
    x = features(9, 4, 10, seed=3)[:, :, ::2]
    torch.testing.assert_close(node_ops.couple(x, x), node_ops.couple(x.contiguous(), x.contiguous()), rtol=0, atol=0)
    torch.testing.assert_close(node_ops.norm(x), node_ops.norm(x.contiguous()), rtol=0, atol=0)


def test_float32_is_as_good_as_it_can_be() -> None:
    torch.manual_seed(0)
    product = NodeProduct(ModelConfig().l_max, 64)
    x = features(16, 50, 64, seed=4).detach()
    want = product.double()(x)[1]
    got = product.float()(x.float())[1]
    assert float((got - want).detach().abs().max() / want.detach().abs().max()) < 1e-6
