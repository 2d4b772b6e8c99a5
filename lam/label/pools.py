"""Where tasks run: in this process, or on Dask workers on this machine, at an address or from a job queue."""

from __future__ import annotations

import importlib.util
import logging
import os
import queue
import time
import warnings
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lam.config.load import read_yaml
from lam.errors import LamError, LamWarning
from lam.label.tasks import Item, Outcome, Plan, close_worker, label_items

if TYPE_CHECKING:
    from distributed import Client, Future

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster"}
GATHER_SECONDS = 10.0
"""For fetching a result; after that, its worker is taken for dead."""
CONNECT_SECONDS = 30.0
"""To a scheduler at an address."""
REFILL_SECONDS = 60.0
"""Between looks for missing workers."""
CLOSE_SECONDS = 30.0
Result = list[Outcome] | None
"""Of a task: its outcomes, or ``None`` if its worker died; what it had finished stands in its journal."""


class Pool(Protocol):
    """Takes tasks and gives back their results in any order."""

    def capacity(self) -> int:
        """Return how many tasks should be under way to keep all workers busy."""

    def submit(self, plan: Plan, items: Sequence[Item]) -> None:
        """Start a task."""

    def wait(self, seconds: float) -> Iterator[tuple[Sequence[Item], Result]]:
        """Yield the tasks that finished, after waiting for up to ``seconds`` for the first."""


class InProcess:
    """One worker: this process (its calculations still run in a process of their own)."""

    def __init__(self) -> None:
        self._tasks: list[tuple[Plan, Sequence[Item]]] = []

    def capacity(self) -> int:
        """Return 1."""
        return 1

    def submit(self, plan: Plan, items: Sequence[Item]) -> None:
        """Remember a task."""
        self._tasks.append((plan, items))

    def wait(self, seconds: float) -> Iterator[tuple[Sequence[Item], Result]]:
        """Do the tasks."""
        while self._tasks:
            plan, items = self._tasks.pop(0)
            yield items, label_items(plan, items)


class DaskPool:
    """The workers of a Dask scheduler.

    Args:
        client: of the scheduler.
        jobs: workers that were asked for.
        refill: asks for that many workers again; called when some are missing for long.
    """

    def __init__(self, client: Client, jobs: int, refill: Callable[[], object] | None = None) -> None:
        self._client, self._jobs, self._refill = client, jobs, refill
        self._looked = time.monotonic()
        self._finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._items: dict[Future, Sequence[Item]] = {}

    def capacity(self) -> int:
        """Return two tasks for each thread of the workers: one to calculate, one to have at hand."""
        try:
            threads = sum(self._client.nthreads().values())
        except OSError as error:
            raise LamError(f"The Dask scheduler is gone ({error}); continue with --resume.") from None
        return 2 * max(threads, self._jobs)

    def submit(self, plan: Plan, items: Sequence[Item]) -> None:
        """Send a task to the scheduler."""
        future = self._client.submit(label_items, plan, list(items), pure=False)
        self._items[future] = items
        future.add_done_callback(self._finished.put)

    def wait(self, seconds: float) -> Iterator[tuple[Sequence[Item], Result]]:
        """Yield finished tasks; those lost with their workers have no outcomes."""
        try:
            futures = [self._finished.get(timeout=seconds)]
        except queue.Empty:
            if self._client.status not in ("running", "connecting"):
                raise LamError("The connection to the Dask scheduler is lost; continue with --resume.") from None
            self._replace_workers()
            return
        with suppress(queue.Empty):
            while True:
                futures.append(self._finished.get_nowait())
        for future in futures:
            yield self._items.pop(future), self._result(future)
            future.release()

    def _replace_workers(self) -> None:
        """Ask again for workers that did not come back: their start failed, or the queue ended their job."""
        if self._refill is not None and time.monotonic() - self._looked > REFILL_SECONDS:
            self._looked = time.monotonic()
            if len(self._client.nthreads()) < self._jobs:
                self._refill()

    def _result(self, future: Future) -> Result:
        from distributed.scheduler import KilledWorker

        if future.status == "finished":
            try:
                return future.result(timeout=GATHER_SECONDS)
            except (TimeoutError, CancelledError):
                return None  # its worker died between finishing and telling
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return None
            if isinstance(error, LamError):
                raise error
            raise LamError(
                f"A Dask worker could not do its task ({type(error).__name__}: {' '.join(str(error).split())[:300]}). "
                "Is the same lam installed where the workers run?"
            )
        if self._client.status != "running":
            raise LamError("The connection to the Dask scheduler is lost; continue with --resume.")
        return None


@contextmanager
def open_pool(
    jobs: int,
    *,
    scheduler: str | None = None,
    cluster: str | None = None,
    cluster_options: str | Path | None = None,
) -> Iterator[Pool]:
    """Yield the pool that was asked for, and end what it started.

    Args:
        jobs: processes on this machine, or jobs in the queue.
        scheduler: address of a running Dask scheduler, e.g. ``tcp://node1:8786``.
        cluster: ``slurm`` or ``pbs``: workers are jobs of that queue.
        cluster_options: YAML with the keywords of dask-jobqueue's cluster, e.g. ``queue``, ``walltime``, ``cores``.

    Raises:
        LamError: if Dask is missing, or the scheduler or the queue does not answer.
    """
    if scheduler and cluster:
        raise LamError("Give --scheduler or --cluster, not both.")
    if cluster_options and not cluster:
        raise LamError("--cluster-options describes the jobs of a queue: it needs --cluster.")
    if jobs == 1 and not scheduler and not cluster:
        try:
            yield InProcess()
        finally:
            close_worker()
        return
    with _dask_settings(), ExitStack() as stack:
        client, refill = _client(stack, jobs, scheduler, cluster, cluster_options)
        yield DaskPool(client, jobs, refill)


@contextmanager
def _dask_settings() -> Iterator[None]:
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError:
        raise LamError(
            "Several jobs at a time need Dask; install it with: pip install 'lam[label]', or use --jobs 1."
        ) from None
    settings = {
        # The driver itself tries again: it knows from the journals what a dead worker had finished. One task at a
        # time is sent to each worker, so that a death blames none but the one that was running.
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.worker-saturation": 1.0,
        # A worker waits for its calculation: its own memory and silence say nothing.
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
        "distributed.admin.tick.limit": "60s",
        "distributed.deploy.lost-worker-timeout": "300s",  # on a busy machine a new worker takes its time
    }
    # That workers die is expected, and told in our words.
    names = ["distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))]
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with dask.config.set(settings):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _client(
    stack: ExitStack, jobs: int, scheduler: str | None, cluster: str | None, options: str | Path | None
) -> tuple[Client, Callable[[], object] | None]:
    """Return a client, and what asks for lost workers again; both end with the stack."""
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            return stack.enter_context(Client(scheduler, timeout=CONNECT_SECONDS)), None
        except (OSError, TimeoutError) as error:
            raise LamError(f"No Dask scheduler answers at '{scheduler}': {' '.join(str(error).split())}.") from None
    if cluster:
        workers = _job_queue(cluster, options)
        refill = partial(workers.scale, jobs=jobs)
        refill()
    else:
        workers = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
        refill = partial(workers.scale, jobs)
    stack.callback(_close, workers)
    return stack.enter_context(Client(workers)), refill


def _close(workers: Any) -> None:
    with suppress(TimeoutError):  # a worker that is just being replaced; it ends with this process
        workers.close(timeout=CLOSE_SECONDS)


def _job_queue(cluster: str, options: str | Path | None) -> Any:
    try:
        import dask_jobqueue
    except ImportError:
        raise LamError(f"--cluster {cluster} needs dask-jobqueue; install it with: pip install 'lam[label]'.") from None
    values = read_yaml(options) if options else {}
    # One calculation per worker: a job with several cores runs as many workers.
    values.setdefault("processes", values.get("cores", 1))
    values.setdefault("cores", 1)
    values.setdefault("memory", "2GB")
    try:
        return getattr(dask_jobqueue, CLUSTERS[cluster])(**values)
    except (TypeError, ValueError) as error:
        where = f"'{options}'" if options else "the defaults"
        raise LamError(f"The options of the {cluster} cluster in {where} are wrong: {error}.") from None


def default_jobs(structures: int) -> int:
    """Return the number of cores that this process may use, or fewer if there is less to do; 1 without Dask."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = max(1, min(cores, structures))
    if jobs > 1 and importlib.util.find_spec("distributed") is None:
        warnings.warn(
            "One structure is labelled at a time, because Dask is missing; install it with: pip install 'lam[label]'.",
            LamWarning,
            stacklevel=2,
        )
        return 1
    return jobs
