"""NequIP (nequip), with random weights, preset S: two layers, l up to 1, .62M parameters, cutoff 6 Angstrom."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ase.build import bulk
from ase.data import chemical_symbols

warnings.filterwarnings("ignore")
from nequip.data import AtomicDataDict, from_ase  # noqa: E402
from nequip.integrations.ase import NequIPCalculator  # noqa: E402
from nequip.integrations.utils import basic_transforms  # noqa: E402
from nequip.model import PresetNequIPGNNModel  # noqa: E402
from nequip.utils.global_state import set_global_state  # noqa: E402

set_global_state(allow_tf32=False)
ELEMENTS = chemical_symbols[1:90]


def about() -> dict[str, Any]:
    """Return versions."""
    return {"nequip": version("nequip"), "e3nn": version("e3nn")}


def _model(cutoff: float, compile_mode: str = "eager") -> torch.nn.Module:
    return PresetNequIPGNNModel(
        preset="S",
        seed=0,
        model_dtype="float32",
        r_max=cutoff,
        type_names=ELEMENTS,
        avg_num_neighbors=50.0,
        compile_mode=compile_mode,
    )


def _transforms(model: torch.nn.Module, cutoff: float) -> list[Callable]:
    return basic_transforms(model.metadata, cutoff, ELEMENTS, {name: name for name in ELEMENTS})


def calculator(cutoff: float = 6.0, how: str = "aotinductor") -> tuple[Any, dict[str, Any]]:
    """Return NequIP's own ASE calculator and facts of the model.

    Args:
        cutoff: Angstrom.
        how: "aotinductor", compiled as by ``nequip-compile --mode aotinductor --target ase`` (needs a C++ compiler;
            minutes, once per environment and cutoff), as its documentation recommends, or "eager".
    """
    model = _model(cutoff).eval()
    if how == "eager":
        made = NequIPCalculator(model, "cpu", transforms=_transforms(model, cutoff))
    else:
        made = NequIPCalculator.from_compiled_model(
            _compiled(model, cutoff), device="cpu", chemical_species_to_atom_type_map=True
        )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    dtype = str(model.model_dtype).removeprefix("torch.")
    return made, {"parameters": parameters, "dtype": dtype, "cutoff": cutoff, "how": how}


def _compiled(model: torch.nn.Module, cutoff: float) -> Path:
    """Return the compiled model, kept in the environment; made by nequip's own command if it is not there."""
    import nequip.scripts.compile as command

    name = f"S-{cutoff}-{version('nequip')}-{torch.__version__}-{torch.get_num_threads()}.nequip.pt2"
    path = Path(sys.prefix) / "lam-benchmark" / name
    if path.exists():
        return path
    if shutil.which("g++") is None and "CXX" not in os.environ:
        raise RuntimeError("compiling NequIP needs a C++ compiler (g++)")
    path.parent.mkdir(exist_ok=True)
    example = bulk("Cu", cubic=True).repeat(4)
    example.rattle(0.05, seed=0)
    data = from_ase(example)
    for transform in _transforms(model, cutoff):
        data = transform(data)
    # The command reads a model from a file of a training; this one has not been trained.
    command.load_saved_model = lambda *_, return_data_dict=False, **__: (model, data) if return_data_dict else model
    partial = path.with_name(f"{os.getpid()}.nequip.pt2")
    command.main(["untrained.ckpt", str(partial), "--mode", "aotinductor", "--device", "cpu", "--target", "ase"])
    os.replace(partial, path)
    return path


def training_step(
    structures: int, cutoff: float = 6.0, how: str = "compile"
) -> tuple[Callable[[], None], dict[str, Any]]:
    """Return a function that takes one step (energy, forces, stress; Adam) on ``structures`` cells, and facts.

    Args:
        structures: number of cells in the batch; "compile" needs two.
        cutoff: Angstrom.
        how: "compile" (``compile_mode: compile`` of its training configuration) or "eager".
    """
    from harness.structures import training_cells

    model = _model(cutoff, how).train()
    graphs = []
    for cell in training_cells(structures):
        data = from_ase(cell)
        for transform in _transforms(model, cutoff):
            data = transform(data)
        graphs.append(data)
    batch = AtomicDataDict.batched_from_list(graphs)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        output = model(dict(batch))
        energy = ((output[AtomicDataDict.TOTAL_ENERGY_KEY] + 3.5 * 32) / 32).square().mean()
        forces = output[AtomicDataDict.FORCE_KEY].square().mean()
        stress = output[AtomicDataDict.STRESS_KEY].square().mean()
        (energy + forces + stress).backward()
        optimiser.step()

    return step, {"dtype": str(model.model_dtype).removeprefix("torch."), "atoms": 32 * structures, "how": how}
