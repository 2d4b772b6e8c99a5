"""An engine in a process of its own, with a time limit that ends any calculation.

A thread cannot be stopped inside Fortran or C, and signals wait there for the call to return; a process can be
killed. One process labels structure after structure (starting it costs far more than labelling a molecule) and is
replaced when it was killed or crashed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

from lam.data.structure import Structure
from lam.label.child import read_message, write_message
from lam.label.engines import Labels

START_LIMIT = 300.0
"""Seconds for importing and making an engine: slow file systems are no reason to fail a structure."""
_TAIL = 2000
_GRACE = 3.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Failure(Exception):
    """A structure without labels: the kind of failure and its reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class KillableEngine:
    """Labels structures in a process of its own.

    Args:
        engine: name of the engine.
        options: its settings.
        threads: threads of each calculation.
    """

    def __init__(self, engine: str, options: Mapping[str, Any], *, threads: int = 1) -> None:
        self._first = {"engine": engine, "options": dict(options)}
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def calculate(self, structure: Structure, time_limit: float) -> Labels:
        """Label one structure, and kill the calculation if it takes longer than ``time_limit`` seconds.

        Raises:
            Failure: with kind ``time limit``, ``crash``, ``refused``, ``not converged`` or ``error``.
        """
        self.start()
        answer = self._ask({"structure": _message(structure)}, time_limit)
        if "labels" in answer:
            return Labels.from_dict(answer["labels"])
        raise Failure(answer["kind"], answer["message"])

    def close(self) -> None:
        """End the process, which is idle."""
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.stdin.close()
                self._process.wait(timeout=_GRACE)
        self.kill()

    def kill(self) -> None:
        """Kill the process and everything that it started."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def start(self) -> None:
        """Start the process, unless it runs.

        Raises:
            Failure: if the engine cannot be made.
        """
        if self._process is not None:
            return
        self._errors = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115 (stays open until close)
        environment = os.environ | dict.fromkeys(_THREADS, str(self._threads))
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lam.label.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # its group can be killed as a whole, external programs included
        )
        answer = self._ask(self._first, START_LIMIT)
        if "ready" not in answer:
            self.kill()
            raise Failure(answer["kind"], answer["message"])

    def _ask(self, message: dict[str, Any], time_limit: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        self._forget_errors()
        try:
            write_message(process.stdin, message)
            answer = self._wait(process, time_limit)
        except BrokenPipeError:
            answer = None
        except BaseException:  # the time limit, or an interrupt: what is running has no reader any more
            self.kill()
            raise
        if answer is None:
            raise self._crash(process)
        return answer

    def _wait(self, process: subprocess.Popen[bytes], time_limit: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + time_limit
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                if selector.select(min(left, 60.0)):
                    return read_message(process.stdout)
        raise Failure("time limit", f"stopped after {time_limit:g} s")

    def _crash(self, process: subprocess.Popen[bytes]) -> Failure:
        said = self._last_errors()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        self.kill()
        code = process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            how = f"was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
        else:
            how = f"ended with status {code}"
        return Failure("crash", f"the calculation {how}" + (f": {said}" if said else ""))

    def _forget_errors(self) -> None:
        self._errors.seek(0)
        self._errors.truncate()

    def _last_errors(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        return " ".join(self._errors.read().decode("utf-8", "replace").split())[-500:]


def _message(structure: Structure) -> dict[str, Any]:
    return {
        "numbers": structure.numbers.tolist(),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "pbc": structure.pbc.tolist(),
        "total_charge": structure.total_charge,
        "spin_multiplicity": structure.spin_multiplicity,
        "source": structure.source,
    }
