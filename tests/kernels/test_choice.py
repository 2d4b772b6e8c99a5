"""Which kernels are taken: forced in one thread only, and not by an empty environment variable."""

from __future__ import annotations

import threading

import pytest
import torch

from lam.model.kernels import backend_for, use


def chosen() -> str:
    """Return the backend for single precision on a CPU."""
    return backend_for(torch.device("cpu"), torch.float32, 8)


def test_forcing_holds_in_its_own_thread_and_ends_with_its_block() -> None:
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        with use("torch"):
            entered.set()
            leave.wait(10)
            seen.append(chosen())

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(10)
    assert chosen() == "numba"
    with use("numba"):
        leave.set()
        thread.join()  # the other block ends first
        assert chosen() == "numba"
        with use("auto"):
            assert chosen() == "numba"
    assert seen == ["torch"] and chosen() == "numba"


def test_an_empty_variable_forces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAM_KERNELS", "")
    assert chosen() == "numba"
