"""Muon: orthogonalised momentum for hidden matrices, AdamW for everything else, as one optimiser.

``torch.optim.Muon`` takes two-dimensional parameters only. Here a matrix may be stacked over leading axes,
(..., n_in, n_out), as the channel mixes of the degrees are: each matrix of a stack is orthogonalised by itself,
all matrices of one shape in one batched product. State and parameter groups are those of any PyTorch
optimiser, so a training state is resumed exactly. Every process of a DDP training computes the same step from
the same averaged gradient; nothing is communicated.

Reference: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the scale of the step is that of
Liu et al., arXiv:2502.16982: entries change about as much as AdamW would change them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

# Quintic Newton-Schulz iteration: the slope at zero is as large as can be while singular values stay near 1.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS = 0.2  # of the entries of AdamW's step, in units of the learning rate


class Muon(Optimizer):
    """Muon for groups with ``orthogonal=True``, AdamW for the others.

    Args:
        groups: parameter groups; each has ``params`` and may have ``orthogonal`` (default: False),
            ``weight_decay`` and ``rate``, a factor of the learning rate.
        lr: learning rate.
        momentum: decay of the average of the gradients of orthogonal groups (Nesterov's form).
        betas: decays of AdamW's moments.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "orthogonal": False,
            "rate": 1.0,
        }
        super().__init__(list(groups), defaults)
        for group in self.param_groups:
            if group["orthogonal"] and any(p.ndim < 2 for p in group["params"]):
                raise ValueError("only matrices, or stacks of them, can be orthogonalised")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one step; parameters without gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["orthogonal"]:
                self._orthogonal_step(group, parameters)
            else:
                self._adamw_step(group, parameters)
        return loss

    def _orthogonal_step(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        momentum = group["momentum"]
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            average = state["momentum_buffer"].lerp_(parameter.grad, 1.0 - momentum)
            updates.append(parameter.grad.lerp(average, momentum))
        rate = group["lr"] * group["rate"]
        for parameter, update in zip(parameters, orthogonalize(updates), strict=True):
            parameter.mul_(1.0 - rate * group["weight_decay"])
            parameter.add_(update, alpha=-rate * _RMS * math.sqrt(max(parameter.shape[-2:])))

    def _adamw_step(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"] * group["rate"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalize(matrices: list[Tensor]) -> list[Tensor]:
    """Replace the singular values of matrices by about one (0.7 to 1.2); zero matrices stay zero.

    The iteration runs on the smaller Gram matrix, of which the step is a polynomial: for a matrix of
    64 x 832 that is a fifth of the arithmetic of iterating on the matrix itself.

    Args:
        matrices: matrices or stacks of matrices, each (..., n, m).

    Returns:
        Tensors of the same shapes.
    """
    # All matrices of one shape, lying down, go through the iteration together.
    by_shape: dict[tuple[int, int], list[int]] = {}
    for place, matrix in enumerate(matrices):
        by_shape.setdefault(tuple(sorted(matrix.shape[-2:])), []).append(place)
    results: list[Tensor] = list(matrices)
    for places in by_shape.values():
        stacks = [_lying(matrices[place]) for place in places]
        found = _orthogonalize(torch.cat(stacks)).split([len(stack) for stack in stacks])
        for place, part in zip(places, found, strict=True):
            shape = matrices[place].shape
            results[place] = (part.transpose(1, 2) if shape[-2] > shape[-1] else part).reshape(shape)
    return results


def _lying(matrix: Tensor) -> Tensor:
    """Return a stack (K, n, m) with n <= m."""
    stack = matrix.reshape(-1, *matrix.shape[-2:])
    return stack.transpose(1, 2) if stack.shape[1] > stack.shape[2] else stack


def _orthogonalize(stack: Tensor) -> Tensor:
    """Orthogonalise a stack (K, n, m), n <= m."""
    a, b, c = _COEFFICIENTS
    # Singular values of at most one; what is zero or all but zero stays so.
    stack = stack / stack.flatten(1).norm(dim=1).clamp(min=1e-20)[:, None, None]
    gram = stack @ stack.transpose(1, 2)
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    total = identity
    for iteration in range(_ITERATIONS):
        factor = a * identity + b * gram + c * (gram @ gram)
        total = factor @ total if iteration else factor
        if iteration + 1 < _ITERATIONS:  # all of these commute: the Gram matrix of factor @ stack
            gram = factor @ gram @ factor
    return total @ stack
