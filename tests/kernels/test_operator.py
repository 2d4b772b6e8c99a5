"""The message operator refuses what its kernels would read or write wrongly, and says what it cannot do."""

from __future__ import annotations

import pytest
import torch

from lam.errors import LamError
from lam.model.kernels import ops, use
from lam.model.kernels.choice import messages
from tests.kernels.graphs import random_like, random_message


def arguments(**changes: torch.Tensor) -> dict:
    """Return arguments for two atoms with two senders and one tensor channel."""
    return random_message(counts=[5, 2], l_max=2, n_radial=2, senders=2, tensors=1) | changes


def nothing(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"T": nothing(2, 8)}, "do not belong together"),
        ({"T": nothing(2, 0)}, "do not belong together"),
        ({"t": nothing(2, 0)}, "do not belong together"),
        ({"t": nothing(2, 12)}, "do not belong together"),
        ({"T": nothing(1, 16)}, "do not belong together"),
        ({"l_max": 1}, "do not belong together with l_max 1"),
        ({"radii": nothing(1)}, "do not belong to 2 atoms"),
        ({"vectors": nothing(6, 3)}, "do not belong to 2 atoms"),
        ({"starts": torch.tensor([0, 7])}, "do not belong to 2 atoms"),
        ({"scale": nothing(17)}, "1 to 16 radial functions"),
        ({"l_max": 4}, "l_max 1 to 3"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(LamError, match=words):
        ops.message(**arguments(**changes))


def test_gradients_of_other_shapes_are_refused() -> None:
    whole = tuple(arguments().values())
    shapes = [(9, 2, 4), (8, 2, 2)]
    good = [nothing(*shape) for shape in shapes]
    changes = random_like(whole[:4])
    for number in range(2):
        bad = list(good)
        bad[number] = bad[number][:, :1]
        with pytest.raises(LamError, match="must be"):
            ops.message_adjoint(*bad, *whole, True, True)
        with pytest.raises(LamError, match="must be"):
            ops.message_second(*changes, *bad, *whole)
    with pytest.raises(LamError, match="Changes of vectors"):
        ops.message_second(changes[0][:3], *changes[1:], *good, *whole)


def third_derivative(power: int) -> torch.Tensor:
    """Return a third derivative of a power of the density: by the senders, and twice by the vectors."""
    given = random_message(counts=[5, 4, 0], l_max=2, n_radial=2, senders=2)
    vectors, q = given["vectors"].requires_grad_(), given["q"].requires_grad_()
    rest = [given[name] for name in ("starts", "neighbors", "radii", "scale", "cutoff", "l_max")]
    density, _ = messages(vectors, *rest)(q, given["T"], given["t"])
    (first,) = torch.autograd.grad(density.pow(power).sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum() if power > 1 else first.sum(), vectors, create_graph=True)
    return torch.autograd.grad(second.sum(), q)[0]


@pytest.mark.parametrize("power", [1, 2])
def test_third_derivatives_are_refused_and_not_wrong(power: int) -> None:
    with pytest.raises(LamError, match="third derivatives"):
        third_derivative(power)
    with use("torch"):
        assert third_derivative(power).abs().max() > 0
