"""lam: one pretrained potential for every atom, with few-label fine-tuning.

``import lam`` is cheap: PyTorch is imported when something here is first used.

* :func:`lam.load` - a potential by name or path.
* :class:`lam.LAMCalculator` - the same as an ASE calculator.
* :func:`lam.finetune` - adapt a potential to a few labelled structures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lam.errors import LamError, LamWarning

if TYPE_CHECKING:
    from lam.calculators import LAMCalculator
    from lam.checkpoint import load
    from lam.train.finetune import finetune

__version__ = "0.1.0"

__all__ = ["LAMCalculator", "LamError", "LamWarning", "__version__", "finetune", "load"]

_LAZY = {"LAMCalculator": "lam.calculators", "load": "lam.checkpoint", "finetune": "lam.train.finetune"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'lam' has no attribute '{name}'")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
