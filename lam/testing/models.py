"""Potentials small enough for the tests of whatever uses one."""

from __future__ import annotations

import torch

from lam.model import HeadInfo, ModelConfig, Potential

TINY = ModelConfig(
    cutoff=4.0,
    l_max=2,
    channels=8,
    radial_functions=4,
    sender_channels=4,
    scalar_channels=8,
    readout_channels=8,
    mean_neighbors=10.0,
)
"""An architecture that builds and runs in milliseconds."""


def tiny_heads() -> list[HeadInfo]:
    """Return two heads: ``mol`` (H, C, O; also cations) and ``cryst`` (O, Si, Cu; with stress)."""
    return [
        HeadInfo(
            name="mol",
            level_of_theory="wB97X/6-31G(d)",
            licence="MIT",
            elements={"H": 30, "C": 20, "O": 10},
            reference_energies={"H": -13.6, "C": -1029.5, "O": -2041.3},
            energy_scale=20.0,
            n_structures=30,
            molecular=True,
            charges=[0.0, 1.0],
            spin_multiplicities=[1.0, 2.0],
        ),
        HeadInfo(
            name="cryst",
            level_of_theory="PBE",
            licence="CC-BY-4.0",
            elements={"O": 5, "Si": 5, "Cu": 7},
            reference_energies={"O": -4.0, "Si": -5.0, "Cu": -3.5},
            energy_scale=10.0,
            n_structures=12,
            periodic=True,
            has_stress=True,
        ),
    ]


def tiny_potential(config: ModelConfig = TINY, heads: list[HeadInfo] | None = None, *, seed: int = 0) -> Potential:
    """Return a potential with random weights, the same ones for the same ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Potential(config, tiny_heads() if heads is None else heads).eval()
