"""Processes that take turns: each code stays loaded in one of its own and works while the others wait.

Whatever else the machine does then slows all codes alike, and ratios can be trusted where times cannot.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

BENCHMARKS = Path(__file__).resolve().parents[1]
PROJECT = BENCHMARKS.parent
_RUN = BENCHMARKS / "peer_workers" / "run.py"


class WorkerError(RuntimeError):
    """A worker could not do what it was asked for."""


class Worker:
    """A process that runs one code in its own environment and answers one request at a time.

    Args:
        code: name of the module ``peer_workers/<code>_worker.py``.
        python: interpreter of the environment that has the code.
        threads: threads of PyTorch, OpenMP and Numba.
        log: file for what the code writes to its standard output and error.
    """

    def __init__(self, code: str, python: str | Path, threads: int, log: Path) -> None:
        self.code = code
        self.log = log
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONPATH", None)
        if code == "lam":
            environment["PYTHONPATH"] = str(PROJECT)
        self._log = log.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), str(_RUN), code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        try:
            self.about: dict[str, Any] = self.ask("start", threads=threads)
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            WorkerError: if the code failed; says how and where its log is.
        """
        with suppress(BrokenPipeError):  # it is gone; below says so
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.code} ended while asked to {do} (status {self._process.wait()}); see {self.log}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.code} failed to {do}: {answer['error']}; see {self.log}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):  # it is gone
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


@dataclass
class Timing:
    """Seconds per call of one contestant, one value for each of its turns.

    A turn lasts until a least time is over, so it is many calls of a fast code and one of a slow code; its value is
    their mean, so that work which is done at some calls only, such as renewing a neighbour list, counts by its share.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    calls: int = 0

    @property
    def seconds(self) -> float:
        """Median over the turns."""
        return statistics.median(self.wall)

    @property
    def cpu_seconds(self) -> float:
        """Median over the turns, of processor time (all threads)."""
        return statistics.median(self.cpu)

    def as_dict(self) -> dict[str, Any]:
        """Return what is worth keeping."""
        return {
            "seconds": self.seconds,
            "fastest_turn": min(self.wall),
            "slowest_turn": max(self.wall),
            "cpu_seconds": self.cpu_seconds,
            "calls": self.calls,
            "turns": len(self.wall),
        }


def take_turns(
    contestants: dict[Any, Callable[[], dict[str, float]]],
    rounds: int,
    least_seconds: float,
    progress: Callable[[str], None],
) -> dict[Any, Timing]:
    """Let every contestant have one turn in each round.

    Args:
        contestants: key -> function that makes one call and returns its ``wall`` and ``cpu`` seconds.
        rounds: number of rounds.
        least_seconds: a turn ends with the call in which this much time is reached.
        progress: is told which round it is.
    """
    timings = {key: Timing() for key in contestants}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for key, call in contestants.items():
            wall, cpu, calls = 0.0, 0.0, 0
            while wall < least_seconds or not calls:
                answer = call()
                wall, cpu, calls = wall + answer["wall"], cpu + answer["cpu"], calls + 1
            timings[key].wall.append(wall / calls)
            timings[key].cpu.append(cpu / calls)
            timings[key].calls += calls
    return timings


def timed(action: Callable[[], object]) -> dict[str, float]:
    """Return the ``wall`` and ``cpu`` seconds (of all threads of this process) that an action takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def start_workers(codes: Sequence[str], pythons: dict[str, str | None], threads: int, logs: Path) -> dict[str, Worker]:
    """Start a worker for each code that has an interpreter; say which are left out, and why.

    Raises:
        WorkerError: if none can be started.
    """
    logs.mkdir(parents=True, exist_ok=True)
    workers = {}
    for code in codes:
        python = pythons[code]
        if python is None:
            print(f"{code}: no interpreter given, left out", file=sys.stderr)
            continue
        try:
            workers[code] = Worker(code, python, threads, logs / f"{code}-{threads}-threads.log")
        except (WorkerError, OSError) as error:
            print(f"{code}: left out: {error}", file=sys.stderr)
    if not workers:
        raise WorkerError("no code could be started; see above")
    return workers
