"""The rows of the ablations: their settings are valid, their variants are other models of the same symmetry."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from making import TINY, crystals

from lam import keys
from lam.config import load_config
from lam.data.graph import build_graph, collate
from lam.data.structure import Structure
from lam.model import HeadInfo, ModelConfig, Potential
from lam.train.config import PretrainConfig

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from ablation_rows import BASES, ROWS  # noqa: E402

VARIANTS = sorted({row.variant for row in ROWS if row.variant})
# A variant patches lam: each gets a process, forked from a server that has imported everything.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lam.train.run", "ablation_variants"])


def test_a_reader_that_has_seen_enough_is_no_error():
    script = [sys.executable, str(ROOT / "benchmarks" / "ablations.py"), "list"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(script, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 0 and not done.stderr


def test_rows_are_told_apart():
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("task", BASES)
def test_settings_are_valid(task):
    for row in ROWS:
        if task not in row.tasks:
            continue
        base = BASES[task]
        words = [*base.overrides, *row.overrides, "output=o", f"manifest={base.manifest}"]
        config = load_config(PretrainConfig, ROOT / base.config, words)
        config.model_config_of_run()
        config.loss_of_decay()


def energy_of_variant(name: str | None) -> float:
    """Return the energy that a variant predicts for a crystal, after checking its symmetry and gradients."""
    from ablation_variants import apply

    os.environ["LAM_KERNELS"] = "torch"  # nothing is compiled for these sizes
    torch.set_num_threads(1)
    apply(name)
    graphs = [build_graph(Structure.from_atoms(atoms), cutoff=4.0, dtype=torch.float64) for atoms in crystals(2)]
    batch = collate(graphs)
    torch.manual_seed(0)
    shape = TINY | {"n_layers": 2, "l_max": 2, "tensor_channels": 4, "radial_functions": 8}
    model = Potential(ModelConfig.parse(shape), [HeadInfo(name="a")]).double()
    output = model(batch, create_graph=True)
    output[keys.FORCES].square().sum().backward()
    assert model.backbone.layers[0].message.mix.weight.grad.abs().max() > 0
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turned = {**batch, keys.POSITIONS: batch[keys.POSITIONS] @ turn.T, keys.CELL: batch[keys.CELL] @ turn.T}
    again = model(turned)
    assert torch.allclose(again[keys.ENERGY], output[keys.ENERGY], atol=1e-9)
    assert torch.allclose(again[keys.FORCES], output[keys.FORCES] @ turn.T, atol=1e-9)
    return float(output[keys.ENERGY][0])


def test_variants_are_other_models_of_the_same_symmetry():
    with SERVER.Pool(1, maxtasksperchild=1) as pool:
        base, *energies = pool.map(energy_of_variant, [None, *VARIANTS], chunksize=1)
    found = dict(zip(VARIANTS, energies, strict=True))
    assert found.pop("lebedev") == pytest.approx(base, abs=1e-10)  # the same product, computed otherwise
    assert len({round(energy, 9) for energy in [base, *found.values()]}) == 1 + len(found)
