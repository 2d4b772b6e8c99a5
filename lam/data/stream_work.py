"""Write one shard of a conversion, and many of them by several processes.

A shard appears whole or not at all, and says what it was made from: one that is there and says the same is
finished. So a conversion that was killed goes on where it stopped, and neither loses nor repeats a structure.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lam.data.recipes import get
from lam.data.shards import Shard, ShardWriter
from lam.data.stream_plan import Job
from lam.data.structure import Structure
from lam.errors import LamError, LamWarning

KEPT_WARNINGS = 20
"""So many different warnings of a shard are reported; the others are counted."""
_TELL_EVERY = 256  # structures between two reports of progress
_POLL = 0.2  # seconds


@dataclass(frozen=True)
class Skipped:
    """A frame that could not be used."""

    source: str
    """The file or folder it is in."""
    reason: str
    """The error, which names the frame."""


@dataclass(frozen=True)
class Written:
    """What became of one job."""

    job: Job
    structures: int
    atoms: int
    found: bool
    """Was a finished shard of the same parts there?"""
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    more_warnings: int = 0


@dataclass
class Progress:
    """How far a conversion is."""

    jobs: int = 0
    """Shards to be written."""
    jobs_done: int = 0
    structures: int = 0
    """Structures written by now, those of finished shards that were found not counted."""
    started: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Structures per second since the start."""
        return self.structures / max(time.monotonic() - self.started, 1e-9)


def find_finished(job: Job, max_broken: int) -> Written | None:
    """Return what a finished shard of the job holds; None if it must be written.

    A shard in which frames were skipped does not count as finished where so many may not be.
    """
    if not job.target.exists():
        return None
    try:
        shard = Shard(job.target, light=True, allow_empty=True)
        stored = shard.attributes
        keys = {*job.attributes, *(key for key in stored if key.startswith("default_"))}
        skipped = tuple(Skipped(*entry) for entry in map(json.loads, shard.skipped()))
        structures, atoms = len(shard), int(shard.n_atoms.sum())
        shard.close()
    except LamError:
        return None  # damaged or of another kind: written again
    if any(stored.get(key) != job.attributes.get(key) for key in keys):
        return None
    if any(count > max_broken for count in Counter(entry.source for entry in skipped).values()):
        return None
    return Written(job, structures, atoms, True, skipped)


def write_job(
    job: Job, defaults: dict[str, float], max_broken: int = 0, tell: Callable[[int], None] | None = None
) -> Written:
    """Read the parts of a job and write its shard.

    Args:
        job: what to read, and where to.
        defaults: ``total_charge`` and ``spin_multiplicity`` of the structures that state none.
        max_broken: so many frames of each source may be broken and are skipped.
        tell: called now and then with the number of structures since the last call.

    Raises:
        LamError: for a frame that is broken, or one too many; then nothing is written.
    """
    read = get(job.read).read if isinstance(job.read, str) else job.read
    skipped: list[Skipped] = []
    per_source: Counter[str] = Counter()
    structures = atoms = told = 0
    with _collected() as messages, ShardWriter(job.target, allow_empty=not job.alone, **job.attributes) as writer:
        for part in job.parts:
            source = str(part.path)
            for item in read(part):
                if isinstance(item, LamError):
                    per_source[source] += 1
                    if per_source[source] > max_broken:
                        raise _too_many(item, source, max_broken)
                    skipped.append(Skipped(source, str(item)))
                    continue
                writer.append(_with_defaults(item, defaults))
                structures += 1
                atoms += len(item)
                if tell is not None and structures - told >= _TELL_EVERY:
                    tell(structures - told)
                    told = structures
        if not structures and job.alone:
            reason = f" ({len(skipped)} broken frames were skipped; the first: {skipped[0].reason})" if skipped else ""
            raise LamError(f"'{job.parts[0].path}' holds no structures that can be used{reason}.")
        writer.skipped = [json.dumps([entry.source, entry.reason]) for entry in skipped]
    if tell is not None:
        tell(structures - told)
    kept = tuple(sorted(messages)[:KEPT_WARNINGS])
    return Written(job, structures, atoms, False, tuple(skipped), kept, messages.total() - len(kept))


def run_jobs(
    jobs: Sequence[Job],
    defaults: dict[str, dict[str, float]],
    *,
    processes: int = 1,
    max_broken: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Written]:
    """Write shards by several processes; yield each result as it comes.

    Args:
        jobs: the shards to write.
        defaults: for each data set, see :func:`write_job`.
        processes: how many.
        max_broken: broken frames of each source that are skipped.
        progress: called about five times a second.

    Raises:
        LamError: for the first job that fails, or if a process is killed. Finished shards stay.
    """
    state = Progress(jobs=len(jobs))

    def show() -> None:
        if progress is not None:
            progress(state)

    if processes <= 1 or len(jobs) <= 1:

        def tell(count: int) -> None:
            state.structures += count
            show()

        for job in jobs:
            result = write_job(job, defaults[job.dataset], max_broken, tell)
            state.jobs_done += 1
            show()
            yield result
        return
    # Spawned, not forked: the parent may already run threads (torch, progress bar).
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(min(processes, len(jobs)), context, _start_worker, (counter, os.getpid()))
    # A few jobs at a time: a list of all would be copied to the workers' queue at once.
    left = iter(jobs)
    running: set[Future[Written]] = set()
    try:
        while True:
            while len(running) < 2 * processes and (job := next(left, None)) is not None:
                running.add(pool.submit(_work, job, defaults[job.dataset], max_broken))
            if not running:
                break
            done, running = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED)
            state.structures = counter.value
            for future in done:
                result = future.result()
                state.jobs_done += 1
                yield result
            show()
        pool.shutdown()
    except BrokenProcessPool:
        raise LamError(
            "A process of the conversion was killed, perhaps because memory ran out. Finished shards are kept: run "
            "the same command again, with fewer --jobs if it happens again."
        ) from None
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise


_counter: Any = None


def _start_worker(counter: Any, parent: int) -> None:
    global _counter
    _counter = counter
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """End this process when its parent has gone: killed, it cannot tell its workers to stop."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(job: Job, defaults: dict[str, float], max_broken: int) -> Written:
    return write_job(job, defaults, max_broken, _tell)


def _tell(count: int) -> None:
    with _counter.get_lock():
        _counter.value += count


@contextmanager
def _collected() -> Iterator[Counter[str]]:
    """Collect the texts of our warnings, a limited number of different ones, and drop the others.

    With the filter "always", Python keeps no list of what was already shown, which would grow with the data.
    """
    messages: Counter[str] = Counter()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, LamWarning):
            text = str(message)
            messages[text if text in messages or len(messages) < 10 * KEPT_WARNINGS else "others"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield messages


def _with_defaults(structure: Structure, defaults: dict[str, float]) -> Structure:
    missing = {key: value for key, value in defaults.items() if getattr(structure, key) is None}
    return replace(structure, **missing) if missing else structure


def _too_many(error: LamError, source: str, max_broken: int) -> LamError:
    reason = str(error).rstrip(".")
    if max_broken:
        return LamError(f"'{source}' has more than {max_broken} broken frames, the last one being: {reason}.")
    return LamError(f"{reason}. (With --skip-broken N, up to N such frames of each file are skipped and recorded.)")
