"""The benchmark script runs and measures what it says (no timings are asserted)."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training_throughput.py"


def test_measures_training_and_inference_of_a_preset():
    measure = runpy.run_path(str(SCRIPT))["measure"]
    row = measure(["nano"], atoms=64, repeats=1, device=torch.device("cpu"))["nano"]
    assert row["atoms"] == 64 and row["edges"] > 64 and row["parameters"] > 1000
    assert row["training_atoms_per_s"] > 0 and row["inference_atoms_per_s"] > 0
