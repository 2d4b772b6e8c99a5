"""MACE (mace-torch), with random weights, in the shape of MACE-MP-0 small.

That is 128x0e hidden features, two interactions, l up to 3 on the edges, correlation 3, 10 Bessel functions, 89
elements, cutoff 6 Angstrom: 3,847,696 parameters, as in the published model.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import mace.calculators  # first: it lets e3nn's tables be read by newer PyTorch
import numpy as np
import torch
from e3nn import o3
from mace import data, modules, tools
from mace.tools import torch_geometric

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float32)
ELEMENTS = list(range(1, 90))


def about() -> dict[str, Any]:
    """Return versions."""
    return {"mace-torch": version("mace-torch"), "e3nn": version("e3nn")}


@cache
def _model(cutoff: float) -> torch.nn.Module:
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=10,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps("128x0e"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=61.96,
        atomic_numbers=ELEMENTS,
        correlation=3,
        atomic_inter_scale=0.8,
        atomic_inter_shift=0.16,
    )


def calculator(cutoff: float = 6.0, how: str = "eager") -> tuple[Any, dict[str, Any]]:
    """Return MACE's own ASE calculator and facts of the model.

    Args:
        cutoff: Angstrom.
        how: "eager", as its documentation runs it (parts of it are TorchScript), or "compile" for torch.compile.
    """
    model = _model(cutoff)
    options = {"compile_mode": "default"} if how == "compile" else {}
    made = mace.calculators.MACECalculator(
        models=copy.deepcopy(model) if options else model, device="cpu", default_dtype="float32", **options
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return made, {"parameters": parameters, "dtype": made.default_dtype, "cutoff": made.r_max, "how": how}


def training_step(
    structures: int, cutoff: float = 6.0, how: str = "eager"
) -> tuple[Callable[[], None], dict[str, Any]]:
    """Return a function that takes one step (energy, forces, stress; Adam) on ``structures`` cells, and facts."""
    from harness.structures import training_cells

    model = copy.deepcopy(_model(cutoff)).requires_grad_(True)
    table = tools.AtomicNumberTable(ELEMENTS)
    configurations = []
    for cell in training_cells(structures):
        properties = {"energy": -3.5 * len(cell), "forces": np.zeros((len(cell), 3)), "stress": np.zeros((3, 3))}
        configurations.append(
            data.Configuration(
                atomic_numbers=cell.numbers,
                positions=cell.positions,
                cell=cell.cell.array,
                pbc=tuple(cell.pbc),
                properties=properties,
                property_weights=dict.fromkeys(properties, 1.0),
            )
        )
    graphs = [data.AtomicData.from_config(each, z_table=table, cutoff=cutoff) for each in configurations]
    batch = torch_geometric.Batch.from_data_list(graphs)
    sizes = batch["ptr"][1:] - batch["ptr"][:-1]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        output = model(batch.clone().to_dict(), training=True, compute_force=True, compute_stress=True)
        energy = ((output["energy"] - batch["energy"]) / sizes).square().mean()
        forces = (output["forces"] - batch["forces"]).square().mean()
        stress = (output["stress"] - batch["stress"]).square().mean()
        (energy + forces + stress).backward()
        optimiser.step()

    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return step, {"dtype": dtype, "atoms": int(sizes.sum()), "how": how}
