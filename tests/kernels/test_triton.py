"""Triton kernels: in Triton's interpreter and through its compiler, which need no GPU, and on a GPU if there is one.

Run as a module with ``TRITON_INTERPRET=1`` (which must be set before Triton is imported) or without, this file
prints what the interpreter or the compiler gave; the tests do so in processes of their own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from lam.errors import LamError
from lam.model.kernels import backend_for, ops
from tests.kernels.graphs import random_like, random_message
from tests.kernels.test_message import GRAPHS, SIZES, TOLERANCE, assert_close, fused, two_derivatives
from tests.kernels.test_message import plain as reference

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the package triton is not installed"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")

CASES = {
    "first layer": {"counts": [3, 0, 20, 17], "n_radial": 8, "senders": 16},
    "later layer": {"counts": [2, 0, 18], "n_radial": 8, "senders": 16, "tensors": 4},
    "float32": {"counts": [2, 0, 18], "n_radial": 8, "senders": 16, "tensors": 4, "dtype": torch.float32},
    "odd sizes": {"counts": [17, 1], "l_max": 2, "n_radial": 5, "senders": 6, "tensors": 3},
    "wide": {"counts": [2], "n_radial": 9, "senders": 18, "tensors": 9},
    "l_max 1": {"counts": [4, 1], "l_max": 1, "n_radial": 1, "senders": 1},
    "no edges": {"counts": [0, 0], "n_radial": 4, "senders": 4, "tensors": 2},
}
MOST_SHARED = 227 * 1024
"""Bytes of shared memory that a program can have on compute capability 9.0."""
COMPILED = {
    "density_value": {"tensors": 16, "dtype": torch.float32},
    "density_adjoint": {"tensors": 16, "dtype": torch.float32},
    "density_second": {"dtype": torch.float32},
    "passed_value": {"tensors": 16, "dtype": torch.float32},
    "passed_adjoint": {"tensors": 16, "dtype": torch.float64},
    "passed_second": {"tensors": 16, "dtype": torch.float32},
}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    """What the interpreter gave: for each case, nothing or what is wrong."""
    return _run_this_file(TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.parametrize("case", [*CASES, "not a number", "not contiguous", "no atoms", "not wanted", "wrong widths"])
def test_interpreted_kernels_agree_with_the_plain_path(interpreted, case) -> None:
    assert interpreted[case] == ""


@needs_triton
@pytest.mark.slow
def test_kernels_compile_for_a_gpu() -> None:
    compiled = _run_this_file()
    assert set(compiled) == set(COMPILED)
    for name, shared in compiled.items():
        assert 0 < shared <= MOST_SHARED, name


@needs_gpu
@needs_triton
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
def test_kernels_on_the_gpu_agree_with_the_plain_path(dtype, sizes, graph) -> None:
    assert backend_for(torch.device("cuda"), dtype, 8) == "triton"
    single = random_message(counts=GRAPHS[graph], dtype=dtype, **SIZES[sizes])
    double = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in single.items()}
    there = {k: v.cuda() if isinstance(v, Tensor) else v for k, v in single.items()}
    # Random projections are drawn on the CPU: the same for both.
    got = {stage: tuple(t.cpu() for t in tensors) for stage, tensors in two_derivatives(fused, there).items()}
    assert_close(got, two_derivatives(reference, double), TOLERANCE[dtype])


def _run_this_file(**environment: str) -> dict[str, Any]:
    """Run this file in a process of its own and return what it printed last."""
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.test_triton"],
        env=clean | environment, cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def _interpret() -> dict[str, str]:
    """Run all cases in the interpreter."""
    from lam.model.kernels import gpu

    ops._implementation = lambda _: gpu  # tensors of the CPU, kernels for the GPU
    checks = {name: lambda sizes=sizes: _check_derivatives(**sizes) for name, sizes in CASES.items()}
    checks["not a number"] = _check_nan
    checks["not contiguous"] = _check_layout
    checks["no atoms"] = _check_nothing
    checks["not wanted"] = _check_wanted
    checks["wrong widths"] = _check_widths
    results = {}
    for name, check in checks.items():
        try:
            check()
            results[name] = ""
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    return results


def _check_derivatives(**sizes: Any) -> None:
    arguments = random_message(**sizes)
    double = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}
    got = two_derivatives(fused, arguments)
    assert_close(got, two_derivatives(reference, double), TOLERANCE[arguments["vectors"].dtype])


def _check_nan() -> None:
    arguments = random_message(counts=[4, 4], l_max=1, n_radial=2, senders=2)
    arguments["vectors"][1, 2] = float("nan")
    density, _ = fused(arguments)
    assert density[:, 0].isnan().any() and not density[:, 1].isnan().any()


def _check_layout() -> None:
    arguments = random_message(counts=[5, 2], l_max=2, n_radial=2, senders=2, tensors=1)
    spread = dict(arguments)
    for name in ("vectors", "q", "T", "t", "neighbors"):
        spread[name] = torch.stack([arguments[name], torch.zeros_like(arguments[name])], dim=-1)[..., 0]
    assert_close({"values": fused(spread)}, {"values": fused(arguments)}, 0.0)


def _check_nothing() -> None:
    arguments = random_message(counts=[0], l_max=2, n_radial=2, senders=3, tensors=1)
    for name in ("q", "T", "t", "radii"):
        arguments[name] = arguments[name][:0]
    density, passed = fused(arguments | {"starts": arguments["starts"][:1]})
    assert density.shape == (9, 0, 6) and passed.shape == (8, 0, 2)


def _check_wanted() -> None:
    from lam.model.kernels import gpu

    arguments = tuple(random_message(counts=[5, 2], l_max=2, n_radial=2, senders=2, tensors=1).values())
    seeds = random_like(gpu.message(*arguments))
    everything = gpu.adjoint(*seeds, *arguments, True, True)
    vectors = gpu.adjoint(*seeds, *arguments, True, False)
    senders = gpu.adjoint(*seeds, *arguments, False, True)
    assert_close({"vectors": vectors[:1]}, {"vectors": everything[:1]}, 1e-14)
    assert_close({"senders": senders[1:]}, {"senders": everything[1:]}, 1e-14)


def _check_widths() -> None:
    arguments = random_message(counts=[5, 2], l_max=2, n_radial=2, senders=2, tensors=1)
    for name, width in (("T", 8), ("t", 12)):
        with pytest.raises(LamError, match="do not belong together"):
            fused(arguments | {name: torch.zeros(2, width, dtype=torch.float64)})


def _compile() -> dict[str, int]:
    """Compile the kernels as they would be launched, for compute capability 9.0; return bytes of shared memory."""
    from lam.model.kernels import gpu, triton_message

    used = {}
    for name, sizes in COMPILED.items():
        kernel = getattr(triton_message, name)
        launches = {other: _Launches() for other in COMPILED}
        with mock.patch.multiple(triton_message, **launches):
            arguments = tuple(random_message(counts=[3, 0], **sizes).values())
            sums = gpu.message(*arguments)
            gradients = gpu.adjoint(*sums, *arguments, True, True)
            gpu.second(*gradients, *sums, *arguments)
        used[name] = _compile_one(kernel, *launches[name].last)
    return used


class _Launches:
    """Takes the place of a kernel and keeps what it would be launched with."""

    def __getitem__(self, grid: tuple[int, ...]) -> _Launches:
        return self

    def __call__(self, *positional: Any, **named: Any) -> None:
        self.last = positional, named


def _compile_one(kernel: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> int:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64"}
    names = kernel.arg_names
    signature = {n: types[v.dtype] if isinstance(v, Tensor) else "i32" for n, v in zip(names, positional, strict=False)}
    constants = {name: value for name, value in named.items() if name in names}
    options = {name: value for name, value in named.items() if name not in names}
    assert set(signature) | set(constants) == set(names)
    source = ASTSource(
        kernel,
        signature={name: signature.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature.get(n, "").startswith("*")},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert compiled.asm["cubin"]
    return compiled.metadata.shared


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(_interpret() if os.environ.get("TRITON_INTERPRET") == "1" else _compile()))
