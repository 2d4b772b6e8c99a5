"""Speed of the presets in training and inference, on structures made here.

Prints, for each preset, atoms per second of a training step (forward, forces, loss, double backward,
Adam) and of inference (energy, forces, stress), and both relative to ``nano``. The presets take turns,
so that a machine busy with other things slows all of them alike: trust the ratios before the numbers.

    python benchmarks/training_throughput.py
    python benchmarks/training_throughput.py --presets nano small --atoms 512 --repeats 20 --device cuda
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from ase.build import bulk
from torch import Tensor

from lam import keys
from lam.data.graph import build_graph, collate
from lam.data.structure import Structure
from lam.model.heads import HeadInfo
from lam.model.kernels import gradients_of
from lam.model.potential import Potential
from lam.model.presets import PRESETS, preset
from lam.train.memory import keep_freed_memory

HEAD = HeadInfo(name="benchmark", elements={"Na": 1, "Cl": 1}, periodic=True)


def make_batch(atoms: int, cutoff: float, device: torch.device) -> dict[str, Tensor]:
    """Return one batch of displaced 64-atom NaCl cells with about ``atoms`` atoms and random labels."""
    random = np.random.default_rng(0)
    graphs = []
    for number in range(max(1, round(atoms / 64))):
        cell = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2)
        cell.rattle(0.1, seed=number)
        structure = Structure(
            numbers=cell.numbers,
            positions=cell.positions,
            cell=np.array(cell.cell),
            pbc=cell.pbc,
            energy=-3.4 * len(cell) + random.normal(),
            forces=random.normal(scale=0.5, size=(len(cell), 3)),
            stress=np.diag(random.normal(scale=0.01, size=3)),
        )
        graphs.append(build_graph(structure, cutoff=cutoff))
    return {key: tensor.to(device) for key, tensor in collate(graphs).items()}


def training_step(model: Potential, batch: dict[str, Tensor]) -> Callable[[], None]:
    """Return a function that takes one optimiser step on energy, forces and stress."""
    parameters = list(model.parameters())
    optimiser = torch.optim.Adam(parameters, lr=1e-4)
    sizes = batch[keys.N_ATOMS]

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        output = model(batch, create_graph=True)
        energy = ((output[keys.ENERGY] - batch[keys.LABEL_ENERGY]) / sizes).square().mean()
        forces = (output[keys.FORCES] - batch[keys.LABEL_FORCES]).square().mean()
        stress = (output[keys.STRESS] - batch[keys.LABEL_STRESS]).square().mean()
        with gradients_of(vectors=False, fixed_senders=True):  # as lam.train does
            (energy + forces + stress).backward(inputs=parameters)
        optimiser.step()

    return step


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that ``action`` takes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(names: list[str], atoms: int, repeats: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Return per preset: parameters, atoms, edges, median atoms/s in training and in inference."""
    results, actions = {}, {}
    for name in names:
        model = Potential(preset(name), [HEAD]).to(device)
        frozen = Potential(preset(name), [HEAD]).to(device).eval().requires_grad_(False)
        batch = make_batch(atoms, model.cutoff, device)
        actions[name, "training"] = training_step(model, batch)
        actions[name, "inference"] = lambda frozen=frozen, batch=batch: frozen(batch)
        results[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "atoms": int(batch[keys.N_ATOMS].sum()),
            "edges": batch[keys.EDGE_INDEX].shape[1],
        }
    for action in actions.values():
        for _ in range(2):
            action()
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in actions}
    for _ in range(repeats):
        for key, action in actions.items():
            seconds[key].append(timed(action, device))
    for (name, kind), values in seconds.items():
        results[name][f"{kind}_atoms_per_s"] = results[name]["atoms"] / statistics.median(values)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS), help="presets to measure")
    parser.add_argument("--atoms", type=int, default=256, help="atoms per batch, in steps of 64 (default: 256)")
    parser.add_argument("--repeats", type=int, default=7, help="timed steps of each kind (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch on the CPU (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as lam.train does
    results = measure(args.presets, args.atoms, args.repeats, torch.device(args.device))
    base = results.get("nano") or results[args.presets[0]]
    print(f"{'':8}{'parameters':>12}{'edges':>9}{'training':>12}{'relative':>10}{'inference':>12}{'relative':>10}")
    print(f"{'':8}{'':12}{'':9}{'atoms/s':>12}{'':10}{'atoms/s':>12}")
    for name, row in results.items():
        train, infer = row["training_atoms_per_s"], row["inference_atoms_per_s"]
        print(
            f"{name:8}{row['parameters']:12,}{row['edges']:9,}{train:12.0f}{train / base['training_atoms_per_s']:10.2f}"
            f"{infer:12.0f}{infer / base['inference_atoms_per_s']:10.2f}"
        )
    if args.json:
        with open(args.json, "w", encoding="utf-8") as handle:
            json.dump(results, handle, indent=1)


if __name__ == "__main__":
    main()
