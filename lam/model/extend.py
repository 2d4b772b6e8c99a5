"""Give a trained model one more head."""

from __future__ import annotations

import torch

from lam.errors import LamError
from lam.model.heads import HeadInfo
from lam.model.potential import Potential


def add_head(model: Potential, info: HeadInfo, *, like: str) -> Potential:
    """Return a copy of a model with a new head that starts as a copy of another.

    Backbone and old heads are bitwise those of ``model``; the new head has the weights of ``like`` and
    the reference energies and scale of ``info``. It becomes the preferred default head.

    Args:
        model: the trained model; not changed.
        info: the new head.
        like: name of the head to copy.

    Raises:
        LamError: if the name is taken or ``like`` does not exist.
    """
    if info.name in model.head_names:
        raise LamError(f"The model has a head '{info.name}' already; choose another name for the new one.")
    row = model.head_index(like)
    extended = Potential(model.config, [*model.heads, info], [info.name, *model.default_heads])
    extended.to(dtype=model.dtype, device=model.device)
    fresh_tables = {name for name, _ in extended.named_buffers() if name.startswith(("reference_", "energy_scale"))}
    per_task = {id(parameter) for parameter in model.readout.task_parameters()}
    source = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, target in [*extended.named_parameters(), *extended.named_buffers()]:
            if name in fresh_tables:
                continue
            old = source[name]
            target.copy_(torch.cat([old, old[row : row + 1]]) if id(old) in per_task else old)
    return extended.train(model.training)
