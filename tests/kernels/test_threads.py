"""Threads of kernels: shares of the work, exceptions, and that nothing runs on after the call."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

from lam.model.kernels.shares import shares
from lam.model.kernels.threads import run

RANGES = [(0, 1), (1, 2), (2, 3)]


def test_every_range_is_worked_on_once() -> None:
    seen: list[tuple[int, int, int]] = []
    run(lambda *part: seen.append(part), RANGES)
    assert sorted(seen) == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


@pytest.mark.parametrize("failing", [0, 2])
def test_all_have_ended_when_an_exception_is_raised(failing: int) -> None:
    ended: list[int] = []

    def action(number: int, first: int, last: int) -> None:
        if number == failing:
            raise ValueError(f"range {number}")
        time.sleep(0.2)
        ended.append(number)

    with pytest.raises(ValueError, match=f"range {failing}"):
        run(action, RANGES)
    assert sorted(ended) == [number for number in range(3) if number != failing]


@pytest.mark.parametrize("busy", [True, False], ids=["while it works", "while it waits"])
def test_all_have_ended_when_the_caller_is_interrupted(busy: bool) -> None:
    ended: list[int] = []
    caller = threading.main_thread().ident

    def action(number: int, first: int, last: int) -> None:
        if number == 1:
            time.sleep(0.1)
            signal.pthread_kill(caller, signal.SIGINT)
        if number or busy:
            for _ in range(30):
                time.sleep(0.01)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        run(action, RANGES)
    assert sorted(ended) == [1, 2] if busy else [0, 1, 2]


def test_shares_cover_all_centres_with_about_equal_work() -> None:
    starts = np.concatenate([[0], np.cumsum(np.arange(400) % 50)])
    parts = shares(starts, threads=3)
    assert [first for first, _ in parts] == [0, *(last for _, last in parts[:-1])] and parts[-1][1] == 400
    assert len(parts) == 3 and max(last - first for first, last in parts) < 2 * 400 / 3
    assert shares(starts[:20], threads=3) == [(0, 19)]
