"""The process that calculates: reads structures from its input, writes labels to its output. Run by `killable`.

Messages are JSON with their length before them. Whatever the engine prints goes to the error stream, so that it
cannot garble the answers. A guard process stands between this one and the worker: when the worker is gone, however
it went, the guard kills the calculation and the programs that it started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import sys
import time
from typing import IO, Any

_GRACE = 1.0
"""Seconds from the end of the input to the kill."""
_LENGTH = struct.Struct("<Q")


def write_message(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message and flush."""
    body = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read one message; ``None`` at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return json.loads(body) if len(body) == length else None


def main() -> None:
    """Start the guard, then serve until the input ends."""
    if hasattr(os, "fork"):
        _stand_guard()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Make the engine that the first message names, then label the structures of the others."""
    from lam.label.engines import make_engine

    first = read_message(requests)
    if first is None:
        return
    try:
        engine = make_engine(first["engine"], first["options"])
        engine.prepare()
    except Exception as error:
        write_message(answers, _problem(error))
        return
    write_message(answers, {"ready": os.getpid()})
    while (request := read_message(requests)) is not None:
        try:
            answer = {"labels": engine.calculate(structure_from(request["structure"])).to_dict()}
        except Exception as error:  # whatever an engine raises is the reason of one failure, not the end of all
            answer = _problem(error)
        write_message(answers, answer)


def structure_from(values: dict[str, Any]) -> Any:
    """Return the structure of a message."""
    from lam.data.structure import Structure

    return Structure(**values)


def _problem(error: Exception) -> dict[str, Any]:
    from lam.errors import LamError
    from lam.label.engines import NotConverged, Refused

    text = " ".join(str(error).split())
    kind = {Refused: "refused", NotConverged: "not converged"}.get(type(error), "error")
    if not isinstance(error, LamError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return {"kind": kind, "message": text[:1000]}


def _stand_guard() -> None:
    """Fork; return in the process that calculates, while the other one watches over it until one of them ends."""
    child = os.fork()
    if child == 0:
        return
    os.close(1)  # the answers end when the calculating process ends
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watch = select.poll()
    watch.register(0, 0)  # no input is read here: only the hang-up counts
    watch.register(wake, select.POLLIN)
    deadline = None  # when the input has ended, an idle process ends by itself
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code < 0:  # end as it ended, so that the worker can say how
                signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
                os.kill(os.getpid(), -code)
            os._exit(code if code >= 0 else 1)
        if any(file == 0 for file, _ in watch.poll(5000 if deadline is None else 100)):
            watch.unregister(0)
            if deadline is None:
                deadline = time.monotonic() + _GRACE
        if deadline is not None and time.monotonic() > deadline:
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
