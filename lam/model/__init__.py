"""The model: an E(3)-equivariant backbone with stacked per-task heads."""

from lam.model.config import ModelConfig
from lam.model.heads import HeadInfo
from lam.model.potential import Potential
from lam.model.presets import PRESETS, preset

__all__ = ["PRESETS", "HeadInfo", "ModelConfig", "Potential", "preset"]
