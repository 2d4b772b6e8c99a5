"""How processes that torchrun started find each other, also after a restart.

torchrun keeps one key-value store for all its restarts. What processes of an earlier start wrote there, such as the
addresses where they listened, is read by those of a later one, which then wait for the dead (seen with PyTorch 2.13
and gloo). Here the first process of every start opens a store of its own and leaves its address in torchrun's; the
others try what they find there until it answers.
"""

from __future__ import annotations

import atexit
import os
import time
import uuid
from datetime import timedelta

import torch
from torch import distributed as dist

from lam.errors import LamError

_KEY = "lam/store"
_TOKEN = "token"
_TRY = timedelta(seconds=5)
JOIN = timedelta(minutes=10)
"""How long a process waits for the others at the start: reading large data sets takes unequal times."""


def join_processes(*, gpu: bool, timeout: timedelta = JOIN) -> None:
    """Initialise PyTorch's process group, if torchrun started several processes; Lightning then uses it.

    Args:
        gpu: communicate with nccl rather than gloo.
        timeout: how long to wait for the others, now and in every exchange.

    Raises:
        LamError: if the first process cannot be reached.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world < 2 or dist.is_initialized() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    rank = int(os.environ["RANK"])
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store = _open(rank, world, timeout)
    dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=world, timeout=timeout)
    atexit.register(_leave)


def _open(rank: int, world: int, timeout: timedelta) -> dist.Store:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    shared = dist.TCPStore(host, port, world_size=world, is_master=False, timeout=timeout)
    if rank == 0:
        store = dist.TCPStore(host, 0, world_size=world, is_master=True, timeout=timeout, wait_for_workers=False)
        token = uuid.uuid4().hex
        store.set(_TOKEN, token)
        shared.set(_KEY, f"{store.port} {token}")
        return store
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        found, token = shared.get(_KEY).decode().split()
        try:
            store = dist.TCPStore(host, int(found), world_size=world, is_master=False, timeout=_TRY)
            if store.get(_TOKEN).decode() == token:
                store.set_timeout(timeout)
                return store
        except (dist.DistError, RuntimeError):
            time.sleep(0.2)  # the address of an earlier start
    raise LamError(
        f"Process {rank} of {world} cannot reach the first one at {host} within {timeout.total_seconds():.0f} s: "
        "see what it printed."
    )


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
