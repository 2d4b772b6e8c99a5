"""Learning-rate schedule and parameter groups."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW

from lam.train.config import OptimizerSection

# Tables by element or task have rows that a batch does not touch: they must not shrink meanwhile.
_NOT_DECAYED = ("message.gate.", "gain", "element", "readout")


def warmup_stable_decay(step: int, steps: int, warmup_steps: int, decay: float) -> float:
    """Return the factor of the learning rate: linear rise, plateau, fall as ``1 - sqrt``.

    The form of Haegele et al., arXiv:2405.18392: a plateau can be prolonged later, and the short decay
    reaches what a cosine schedule of the same length does.

    Args:
        step: steps done, from 0.
        steps: all steps.
        warmup_steps: steps that rise.
        decay: fraction of the steps, at the end, that fall.
    """
    fall = decay * steps
    rise = (step + 1) / (warmup_steps + 1) if step < warmup_steps else 1.0
    if fall == 0 or step < steps - fall:
        return rise
    return min(rise, max(0.0, 1.0 - math.sqrt((step - (steps - fall)) / fall)))


def build_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSection) -> AdamW:
    """Build AdamW with weight decay on matrices only.

    Args:
        parameters: names and trainable parameters.
        settings: the optimiser section.
    """
    decayed, free = [], []
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and not any(part in name for part in _NOT_DECAYED)
        (decayed if is_matrix else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=settings.learning_rate, betas=(0.9, settings.beta2))
