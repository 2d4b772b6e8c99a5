"""Fused kernels against the plain path: values, gradients, second derivatives, on random graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lam.errors import LamError
from lam.model.kernels import backend_for, cpu, gradients_of, ops, use
from lam.model.kernels import numba_simd as simd
from lam.model.kernels.plain import PlainMessages
from tests.kernels.graphs import random_like, random_message

SIZES = {
    "first layer": {},
    "later layer": {"tensors": 16},
    "one sender": {"senders": 1},
    "odd sizes": {"l_max": 2, "n_radial": 5, "senders": 6, "tensors": 3},
    "l_max 1": {"l_max": 1, "n_radial": 3, "senders": 4},
    "many functions": {"n_radial": 16, "senders": 4, "tensors": 2},
    "wide": {"l_max": 2, "n_radial": 6, "senders": 32, "tensors": 5},
}
GRAPHS = {
    "mixed": [3, 0, 40, 70, 1, 32, 33, 0, 12],
    "no edges at all": [0, 0, 0],
    "one atom without neighbours": [0],
    "one atom with images": [12],
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def fused(arguments: dict) -> tuple[Tensor, Tensor]:
    """Call the operator, which takes the kernels of the tensors' device."""
    return ops.message(**arguments)


def plain(arguments: dict) -> tuple[Tensor, Tensor]:
    """Call the plain path with the same arguments."""
    rest = {name: value for name, value in arguments.items() if name not in ("q", "T", "t")}
    return PlainMessages(**rest)(arguments["q"], arguments["T"], arguments["t"])


def two_derivatives(message, arguments: dict) -> dict[str, tuple[Tensor, ...]]:
    """Return values, gradients of a random projection, and gradients of a random projection of these."""
    names = ("vectors", "q", "T", "t")
    leaves = {name: arguments[name].clone().requires_grad_() for name in names}
    values = message(arguments | leaves)
    seeds = tuple(seed.requires_grad_() for seed in random_like(values))
    inputs = tuple(leaves.values())
    total = sum((a * b).sum() for a, b in zip(values, seeds, strict=True))
    first = torch.autograd.grad(total, inputs, create_graph=True, materialize_grads=True)
    along = sum((a * b).sum() for a, b in zip(first, random_like(first, seed=2), strict=True))
    second = torch.autograd.grad(along, (*inputs, *seeds), materialize_grads=True)
    return {"values": values, "first": first, "second": second}


def assert_close(got: dict[str, tuple[Tensor, ...]], want: dict[str, tuple[Tensor, ...]], tolerance: float) -> None:
    """Compare relative to the largest element of each tensor."""
    for stage, tensors in want.items():
        for number, (mine, theirs) in enumerate(zip(got[stage], tensors, strict=True)):
            assert mine.shape == theirs.shape
            size = max(1.0, float(theirs.detach().abs().max())) if theirs.numel() else 1.0
            error = float((mine - theirs).detach().abs().max()) if theirs.numel() else 0.0
            assert error <= tolerance * size, f"{stage} {number}: {error:.3g} of {size:.3g}"


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
def test_kernels_agree_with_the_plain_path_to_second_derivatives(dtype, sizes, graph) -> None:
    if dtype == torch.float32 and sizes not in ("first layer", "later layer"):
        pytest.skip("sizes are checked in float64")
    single = random_message(counts=GRAPHS[graph], dtype=dtype, **SIZES[sizes])
    double = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in single.items()}
    assert_close(two_derivatives(fused, single), two_derivatives(plain, double), TOLERANCE[dtype])


def test_kernels_made_for_narrow_registers_agree_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simd, "REGISTER", 16)
    monkeypatch.setattr(simd, "TILE", 8)
    monkeypatch.setattr(cpu, "kernels", cpu.kernels.__wrapped__)
    arguments = random_message(counts=GRAPHS["mixed"], l_max=2, senders=4, tensors=2)
    assert_close(two_derivatives(fused, arguments), two_derivatives(plain, arguments), 1e-12)


def test_plain_path_is_right_by_finite_differences() -> None:
    arguments = random_message(counts=[3, 0, 5], l_max=2, n_radial=2, senders=2, tensors=1)
    arguments["vectors"] = arguments["vectors"].clamp(-2.5, 2.5)
    names = ("vectors", "q", "T", "t")
    leaves = tuple(arguments[name].clone().requires_grad_() for name in names)

    def function(*values: Tensor) -> tuple[Tensor, Tensor]:
        return plain(arguments | dict(zip(names, values, strict=True)))

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_kernels_take_tensors_that_are_not_contiguous() -> None:
    arguments = random_message(counts=[5, 9, 2], tensors=4)
    spread = dict(arguments)
    for name in ("vectors", "q", "T", "t", "neighbors"):
        spread[name] = torch.stack([arguments[name], torch.zeros_like(arguments[name])], dim=-1)[..., 0]
        assert not spread[name].is_contiguous()
    assert_close({"values": fused(spread)}, {"values": fused(arguments)}, 0.0)


def test_kernels_take_gradients_that_are_not_contiguous() -> None:
    arguments = random_message(counts=[5, 9, 2], tensors=4)
    numbers = ("cutoff", "l_max")
    tensors = tuple(value for name, value in arguments.items() if name not in numbers)
    rest = tuple(arguments[name] for name in numbers)
    gradients = random_like(fused(arguments))
    spread = tuple(torch.stack([g, torch.zeros_like(g)], dim=-1)[..., 0] for g in gradients)
    want = ops.message_adjoint(*gradients, *tensors, *rest, True, True)
    assert_close({"": ops.message_adjoint(*spread, *tensors, *rest, True, True)}, {"": want}, 0.0)
    changes = random_like(want, seed=2)
    apart = tuple(torch.stack([g, torch.zeros_like(g)], dim=-1)[..., 0] for g in changes)
    second = ops.message_second(*changes, *gradients, *tensors, *rest)
    assert_close({"": ops.message_second(*apart, *spread, *tensors, *rest)}, {"": second}, 0.0)


def test_several_threads_give_what_one_gives() -> None:
    arguments = random_message(counts=[60] * 200, tensors=4)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(two_derivatives(fused, arguments))
    finally:
        torch.set_num_threads(before)
    assert_close(results[1], results[0], 1e-13)


def test_nan_stays_nan() -> None:
    arguments = random_message(counts=[4, 4])
    arguments["vectors"][1, 2] = float("nan")
    density, _ = fused(arguments)
    assert density[:, 0].isnan().any() and not density[:, 1].isnan().any()


def test_operators_are_registered_properly() -> None:
    arguments = random_message(counts=[3, 0, 5], l_max=2, n_radial=2, senders=2, tensors=1, dtype=torch.float32)
    for name in ("vectors", "q", "T", "t"):
        arguments[name].requires_grad_()
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.message, tuple(arguments.values()), test_utils=tests)


def test_gradients_that_nobody_wants_are_skipped_and_others_right() -> None:
    arguments = random_message(counts=[3, 0, 5], tensors=0)
    leaves = {name: arguments[name].clone().requires_grad_() for name in ("vectors", "q")}
    density, _ = fused(arguments | leaves)
    seed = torch.ones_like(density)
    full = torch.autograd.grad(density, (leaves["vectors"], leaves["q"]), seed, retain_graph=True)
    with gradients_of(vectors=True, fixed_senders=False):
        only = torch.autograd.grad(density, tuple(leaves.values()), seed, retain_graph=True, allow_unused=True)
    assert torch.equal(only[0], full[0]) and only[1] is None
    with gradients_of(vectors=False, fixed_senders=True):
        only = torch.autograd.grad(density, tuple(leaves.values()), seed, allow_unused=True)
    assert only[0] is None and torch.equal(only[1], full[1])


@pytest.mark.filterwarnings("ignore:The model has 64 radial functions")
def test_backends_are_chosen_forced_and_refused() -> None:
    cpu = torch.device("cpu")
    assert backend_for(cpu, torch.float32, 8) == "numba"
    assert backend_for(cpu, torch.float32, 64) == "torch"
    with use("torch"):
        assert backend_for(cpu, torch.float32, 8) == "torch"
    with use("numba"), pytest.raises(LamError, match="radial functions"):
        backend_for(cpu, torch.float32, 64)
    with use("triton"), pytest.raises(LamError, match="needs a cuda device"):
        backend_for(cpu, torch.float32, 8)
    with pytest.raises(LamError, match="numba"), use("numbra"):
        pass


def test_backend_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAM_KERNELS", "torch")
    assert backend_for(torch.device("cpu"), torch.float32, 8) == "torch"
    monkeypatch.setenv("LAM_KERNELS", "fast")
    with pytest.raises(LamError, match="LAM_KERNELS"):
        backend_for(torch.device("cpu"), torch.float32, 8)


def test_compiled_graphs_see_one_operation() -> None:
    arguments = random_message(counts=[3, 0, 5], l_max=2, n_radial=2, senders=2, tensors=1)
    names: list[str] = []

    def record(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        names.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    def function(vectors: Tensor, q: Tensor) -> Tensor:
        density, passed = ops.message(**(arguments | {"vectors": vectors, "q": q}))
        return density.square().sum() + passed.sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, backend=record, fullgraph=True)
    vectors, q = arguments["vectors"].clone().requires_grad_(), arguments["q"]
    got = torch.autograd.grad(compiled(vectors, q), vectors)[0]
    assert sum("message" in name for name in names) == 1
    torch.testing.assert_close(got, torch.autograd.grad(function(vectors, q), vectors)[0])
