"""An optimiser whose state is divided among processes takes the steps of one whose state is not."""

import multiprocessing

import pytest
import torch
from torch import distributed as dist
from torch.optim import AdamW

from lam.train.muon import Muon
from lam.train.sharding import ShardedOptimizer

CONTEXT = multiprocessing.get_context("spawn")


def weights() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(4, 6), (3, 5, 2), (7,), (2, 2), (11,)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def build(kind: str, parameters):
    if kind == "adamw":
        return AdamW([{"params": parameters[:3]}, {"params": parameters[3:], "weight_decay": 0.0}], lr=0.1)
    matrices = [p for p in parameters if p.ndim > 1]
    rest = [p for p in parameters if p.ndim == 1]
    return Muon([{"params": matrices, "orthogonal": True, "weight_decay": 0.1}, {"params": rest}], lr=0.1)


def run(optimizer, parameters, steps):
    for step in steps:
        for place, parameter in enumerate(parameters):
            parameter.grad = torch.sin(parameter.detach() * (place + 1) + step)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1)
        optimizer.step()


def worker(rank: int, world: int, file: str, kind: str, state, queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    parameters = weights()
    optimizer = ShardedOptimizer(build(kind, parameters))
    run(optimizer, parameters, range(3))
    kept = len(optimizer.state)
    whole = optimizer.state_dict()
    run(optimizer, parameters, range(3, 5))
    again = weights()
    other = ShardedOptimizer(build(kind, again))
    run(other, again, range(3))
    other.load_state_dict(whole)
    run(other, again, range(3, 5))
    # Lists: tensors sent through a queue die with the process that sent them.
    queue.put((rank, [p.tolist() for p in parameters], [p.tolist() for p in again], kept, len(whole["state"])))
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_two_processes_take_the_steps_of_one(kind, tmp_path):
    expected = weights()
    run(build(kind, expected), expected, range(5))
    queue = CONTEXT.Queue()
    processes = [
        CONTEXT.Process(target=worker, args=(rank, 2, str(tmp_path / "store"), kind, None, queue)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    for _, found, resumed, kept, whole in results:
        assert kept < 5 and whole == 5
        for values, again, tensor in zip(found, resumed, expected, strict=True):
            assert torch.equal(torch.tensor(values), tensor) and torch.equal(torch.tensor(again), tensor)
    assert sum(result[3] for result in results) == 5


def test_one_process_keeps_everything():
    parameters, expected = weights(), weights()
    run(ShardedOptimizer(build("adamw", parameters)), parameters, range(3))
    run(build("adamw", expected), expected, range(3))
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))
