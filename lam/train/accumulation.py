"""The gradient of a process's share of a step, in parts: as many as asked for, and more where memory is short."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lam import keys
from lam.data.balance import costs_of, share
from lam.data.graph import take

Differentiate = Callable[[dict[str, Tensor]], Tensor]
"""Adds the gradient of a part to the parameters and returns the loss terms of its structures, (terms, G)."""

_CPU_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


@dataclass
class Accumulated:
    """What became of a share."""

    terms: Tensor
    """Loss terms of each structure in the order of the batch, (terms, G); zero where left out."""
    halved: int = 0
    """How often a part did not fit in memory and was divided."""
    left_out: list[int] = field(default_factory=list)
    """Structures that do not fit in memory by themselves."""


def accumulate(
    batch: dict[str, Tensor], parts: int, differentiate: Differentiate, parameters: Sequence[Tensor], terms: int
) -> Accumulated:
    """Add the gradient of a batch to parameters, part by part.

    A part that does not fit in memory is divided into halves of equal cost, again and again, down to single
    structures. What it had added before it failed is taken back.

    Args:
        batch: the share.
        parts: into how many parts it is divided to begin with.
        differentiate: runs model, loss and backward pass on a part.
        parameters: whose gradients are added to.
        terms: number of loss terms.
    """
    count = len(batch[keys.N_ATOMS])
    if parts <= 1 or count < 2:
        waiting = [list(range(count))]
    else:
        waiting = _divide(batch, list(range(count)), min(parts, count))
    result = Accumulated(batch[keys.N_ATOMS].new_zeros(0))
    found: list[tuple[list[int], Tensor]] = []
    while waiting:
        structures = waiting.pop(0)
        values = None
        with _gradients_kept(parameters) as keep:
            # The handler must end before anything is tried again: the exception holds the memory of the failure.
            with contextlib.suppress(_OutOfMemory), _recognised():
                whole = len(structures) == count
                part = batch if whole else take(batch, torch.tensor(structures, device=batch[keys.TASK].device))
                values = differentiate(part)
            keep(values is not None)
        if values is not None:
            found.append((structures, values))
            continue
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(structures) == 1:
            result.left_out += structures
        else:
            result.halved += 1
            waiting = _divide(batch, structures, 2) + waiting
    result.terms = _in_order(found, terms, count, batch)
    return result


def is_out_of_memory(error: BaseException) -> bool:
    """Is this what PyTorch raises when memory is short? On a CPU it has no type of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MESSAGES)


class _OutOfMemory(Exception):
    """Stands for whatever tells of too little memory, without what it holds on to."""


@contextlib.contextmanager
def _recognised() -> Iterator[None]:
    failed = False
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        failed = True
    if failed:
        raise _OutOfMemory


@contextlib.contextmanager
def _gradients_kept(parameters: Sequence[Tensor]) -> Iterator[Callable[[bool], None]]:
    """Give a part fresh gradients; they are added to the earlier ones if it says that it succeeded."""
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None

    def keep(succeeded: bool) -> None:
        for parameter, earlier in zip(parameters, before, strict=True):
            if not succeeded:
                parameter.grad = earlier
            elif earlier is not None:
                parameter.grad = earlier if parameter.grad is None else earlier.add_(parameter.grad)

    yield keep


def _divide(batch: dict[str, Tensor], structures: list[int], parts: int) -> list[list[int]]:
    """Divide structures into parts of about equal cost."""
    n_atoms = batch[keys.N_ATOMS]
    owner = batch[keys.BATCH][batch[keys.EDGE_INDEX][1]]
    n_edges = torch.bincount(owner, minlength=len(n_atoms))
    costs = costs_of(n_atoms.cpu().numpy(), n_edges.cpu().numpy())
    chosen = torch.tensor(structures).numpy()
    return [part for part in share(chosen, costs[chosen], parts) if part]


def _in_order(found: list[tuple[list[int], Tensor]], terms: int, count: int, batch: dict[str, Tensor]) -> Tensor:
    if len(found) == 1 and len(found[0][0]) == count:
        return found[0][1]
    like = found[0][1] if found else batch[keys.LABEL_FORCES]
    values = like.new_zeros(terms, count)
    for structures, part in found:
        values[:, structures] = part
    return values
