"""Which kernels are taken: forced in one thread only, not by an empty variable, and what does not fit is said."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch

from lam.errors import LamWarning
from lam.model.kernels import backend_for, choice, use
from lam.model.kernels.sizes import MAX_RADIAL


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


def test_more_radial_functions_than_fit_warn_once_and_say_what_to_do() -> None:
    choice._warn_of_many.cache_clear()
    cpu = torch.device("cpu")
    with pytest.warns(LamWarning, match="radial_functions=16 or fewer"):
        assert backend_for(cpu, torch.float32, MAX_RADIAL + 1) == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend_for(cpu, torch.float32, MAX_RADIAL + 1) == "torch"
        assert backend_for(cpu, torch.float32, MAX_RADIAL) == "numba"
        assert backend_for(torch.device("meta"), torch.float32, MAX_RADIAL) == "torch"
        with use("torch"):
            assert backend_for(cpu, torch.float32, 2 * MAX_RADIAL) == "torch"


def test_kernels_and_choice_share_one_limit() -> None:
    from lam.model.kernels import numba_geometry, ops

    assert {module.MAX_RADIAL for module in (choice, numba_geometry, ops)} == {MAX_RADIAL}
