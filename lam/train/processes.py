"""What the processes of a training tell each other: sums and lines of text. One process talks to nobody."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist


def several() -> bool:
    """Is this one of several processes of a training?"""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum over all processes, in place."""
    if several():
        dist.all_reduce(values)
    return values


def largest_over_processes(values: Tensor) -> Tensor:
    """Return the largest of all processes, element by element, in place."""
    if several():
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def gather_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines of all processes, in the order of the processes, on every one of them."""
    if not several():
        return list(lines)
    parts: list[list[str] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(lines))
    return [line for part in parts for line in part or ()]


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace the gradients of parameters by their sums over all processes: one message for each type of number.

    A parameter without a gradient on this process takes part with zeros, so that the processes cannot wait for
    different messages. The models have a few million parameters: a single message after the backward pass is
    simpler than one that overlaps with it, and lets a process repeat its work before anybody sees the result.
    """
    if not several():
        return
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        by_dtype.setdefault(parameter.dtype, []).append(parameter.grad)
    for gradients in by_dtype.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        parts = [part.view_as(gradient) for part, gradient in zip(flat.split(sizes), gradients, strict=True)]
        torch._foreach_copy_(gradients, parts)
