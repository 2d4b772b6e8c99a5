"""The optimiser's state divided among processes: each keeps, and steps with, that of its own parameters.

AdamW keeps two numbers for each weight, which with the weight and its gradient is half of what a large model
needs on every process. After a step every process sends the parameters it owns to the others. The state that is saved
is the whole one, so that a training goes on with another number of processes, or with none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.optim import Optimizer

from lam.data.balance import share
from lam.train.processes import several


class ShardedOptimizer(Optimizer):
    """Any optimiser whose state of a parameter depends on that parameter alone, and is made when first needed.

    Args:
        inner: the optimiser, which has taken no step yet.
    """

    def __init__(self, inner: Optimizer) -> None:
        super().__init__(inner.param_groups, inner.defaults)
        self.inner = inner
        # The same objects: a schedule that sets the rate of one sets that of the other.
        self.param_groups, self.state = inner.param_groups, inner.state
        parameters = self._parameters
        sizes = torch.tensor([p.numel() for p in parameters], dtype=torch.float64).numpy()
        places = torch.arange(len(parameters)).numpy()
        self._owned = share(places, sizes, dist.get_world_size() if several() else 1)
        self._rank = dist.get_rank() if several() else 0

    @property
    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step with the parameters that this process owns; take over the others."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters, mine = self._parameters, set(self._owned[self._rank])
        hidden = {place: p.grad for place, p in enumerate(parameters) if place not in mine}
        for place in hidden:
            parameters[place].grad = None
        self.inner.step()
        for place, gradient in hidden.items():
            parameters[place].grad = gradient
        if several():
            for owner, places in enumerate(self._owned):
                _broadcast([parameters[place] for place in places], owner)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, gathered from all processes; every one of them must call this."""
        whole = self.inner.state_dict()
        if several():
            parts: list[dict[int, Any] | None] = [None] * dist.get_world_size()
            dist.all_gather_object(parts, _on_cpu(whole["state"]))
            whole["state"] = {place: values for part in parts for place, values in (part or {}).items()}
            whole["state"] = dict(sorted(whole["state"].items()))
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take this process's part of a whole state, sharded or not."""
        mine = set(self._owned[self._rank])
        part = {place: values for place, values in state_dict["state"].items() if place in mine}
        self.inner.load_state_dict({**state_dict, "state": part})
        self.param_groups, self.state = self.inner.param_groups, self.inner.state


def _broadcast(tensors: list[Tensor], owner: int) -> None:
    """Copy tensors from their owner to all processes: one message for each type of number."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        chosen = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in chosen])
        dist.broadcast(flat, owner)
        parts = flat.split([tensor.numel() for tensor in chosen])
        torch._foreach_copy_(chosen, [part.view_as(tensor) for part, tensor in zip(parts, chosen, strict=True)])


def _on_cpu(state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {
        place: {name: value.cpu() if isinstance(value, Tensor) else value for name, value in values.items()}
        for place, values in state.items()
    }
