"""Learning-rate schedule and parameter groups."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from lam.train.config import OptimizerSection
from lam.train.muon import Muon
from lam.train.sharding import ShardedOptimizer

# Tables by element or task have rows that a batch does not touch: they must not shrink meanwhile.
_NOT_DECAYED = (".gate.weight", "gain", "element", "readout")
# Matrices that take in a few given numbers rather than features: Muon is for the others.
_INPUTS = ("charge_spin",)


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


def decays(step: int, steps: int, decay: float) -> bool:
    """Is the learning rate of a step in its final fall?"""
    return step >= steps - decay * steps


def build_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSection) -> Optimizer:
    """Build AdamW or Muon, with weight decay on matrices only; its state is divided among processes if asked for.

    Args:
        parameters: names and trainable parameters.
        settings: the optimiser section.
    """
    optimizer = _build(parameters, settings)
    return ShardedOptimizer(optimizer) if settings.shard else optimizer


def _build(parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSection) -> Optimizer:
    decayed: dict[str, nn.Parameter] = {}
    free: list[nn.Parameter] = []
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or any(part in name for part in _NOT_DECAYED):
            free.append(parameter)
        else:
            decayed[name] = parameter
    betas = (0.9, settings.beta2)
    if settings.kind == "adamw":
        groups = _groups(settings.weight_decay, list(decayed.values()), free)
        # Fused: one call for all parameters, which matters for steps of a hundred atoms.
        return AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)
    inputs = [name for name in decayed if any(part in name for part in _INPUTS)]
    matrices = [parameter for name, parameter in decayed.items() if name not in inputs]
    groups = _groups(settings.weight_decay, matrices, [decayed[name] for name in inputs], free)
    if matrices:
        groups[0] |= {"orthogonal": True, "rate": settings.matrix_rate}
    return Muon(groups, lr=settings.learning_rate, momentum=settings.momentum, betas=betas)


def _groups(weight_decay: float, *lists: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Return parameter groups; the last list is not decayed, empty ones are left out."""
    decays = [weight_decay] * (len(lists) - 1) + [0.0]
    return [{"params": params, "weight_decay": w} for params, w in zip(lists, decays, strict=True) if params]
