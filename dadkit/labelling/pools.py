"""Workers that label units: this process, processes of this machine, actors of a Ray cluster.

A pool knows nothing of what is to be done. It starts workers, hands each one unit at a time, and reports what became of it. A
worker that failed in any way is gone: its state is unknown, and a fresh one costs less than a wrong label.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dadkit.errors import DadkitError, DataError
from dadkit.threads import keep_memory

__all__ = ["Event", "InlinePool", "Pool", "ProcessPool", "RayPool", "Work"]

Work = Callable[[int, int], Mapping[str, Any]]
"""(unit, attempt) -> record; what a factory makes in each worker, with the teachers loaded."""


@dataclass(frozen=True)
class Event:
    """What a worker reports.

    Attributes:
        kind: ``ready``: it may be given work. ``done``: ``record`` is the unit's. ``lost``: it died or failed on its unit, and
            is gone. ``unstarted``: it never became ready, and is gone. ``stop``: the user has to put something right.
        worker: its number.
        record: of a finished unit.
        text: the error.
    """

    kind: Literal["ready", "done", "lost", "unstarted", "stop"]
    worker: int
    record: Mapping[str, Any] | None = None
    text: str = ""


class Pool(Protocol):
    """Workers.

    Attributes:
        size: how many should be alive.
    """

    size: int

    def start(self) -> None:
        """Start one worker, which reports ``ready`` or ``unstarted``."""
        ...

    def submit(self, worker: int, unit: int, attempt: int) -> None:
        """Give a ready worker a unit; it reports ``done``, ``lost`` or ``stop``."""
        ...

    def wait(self, timeout: float) -> list[Event]:
        """Returns what happened, after at most ``timeout`` seconds."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def _attempt(worker: int, call: Callable[[], Mapping[str, Any]]) -> Event:
    try:
        return Event("done", worker, record=call())
    except DadkitError as error:
        return Event("stop", worker, text=str(error))
    except Exception:
        return Event("lost", worker, text=traceback.format_exc())


class InlinePool:
    """One worker: this process. A unit that kills it kills the job, so it is for small jobs."""

    def __init__(self, make: Callable[[], Work]) -> None:
        self.size = 1
        self._make, self._count = make, 0
        self._work: Work | None = None
        self._events: deque[Event] = deque()

    def start(self) -> None:
        """Start one worker."""
        self._count += 1
        self._work = self._work or self._make()
        self._events.append(Event("ready", self._count))

    def submit(self, worker: int, unit: int, attempt: int) -> None:
        """Give a worker a unit."""
        work = self._work
        assert work is not None
        self._events.append(_attempt(worker, lambda: work(unit, attempt)))

    def wait(self, timeout: float) -> list[Event]:
        """Returns what happened."""
        found = list(self._events)
        self._events.clear()
        return found

    def close(self) -> None:
        """End all workers."""
        self._work = None


def _serve(connection: Any, worker: int, make: Callable[[], Work], environment: Mapping[str, str]) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    os.environ.update(environment)
    keep_memory()
    try:
        work = make()
    except BaseException as error:
        connection.send(
            Event("unstarted", worker, text=str(error) if isinstance(error, DadkitError) else traceback.format_exc())
        )
        return
    connection.send(Event("ready", worker))
    while True:
        try:
            unit, attempt = connection.recv()
        except EOFError:  # the driver is gone; its next one will find what is committed
            return
        connection.send(_attempt(worker, lambda: work(unit, attempt)))  # noqa: B023


class ProcessPool:
    """Processes of this machine.

    Args:
        make: makes the function that labels, in each process; must survive pickling.
        size: how many.
        devices: each process gets the next of these as ``make``'s keyword ``device``.
        environment: set in each process before torch is used.
    """

    def __init__(
        self,
        make: Callable[..., Work],
        size: int,
        *,
        devices: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.size = size
        self._make, self._devices, self._environment = make, devices, dict(environment or {})
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, tuple[Any, Any]] = {}
        self._free = deque(devices)
        self._device: dict[int, str] = {}
        self._ready: set[int] = set()
        self._count = 0

    def start(self) -> None:
        """Start one worker."""
        from functools import partial

        self._count += 1
        make = self._make
        if self._devices:
            self._device[self._count] = self._free.popleft()
            make = partial(make, device=self._device[self._count])
        here, there = self._context.Pipe()
        arguments = (there, self._count, make, self._environment)
        process = self._context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        there.close()
        self._workers[self._count] = (process, here)

    def submit(self, worker: int, unit: int, attempt: int) -> None:
        """Give a worker a unit."""
        with contextlib.suppress(OSError):  # it died; wait() reports it
            self._workers[worker][1].send((unit, attempt))

    def wait(self, timeout: float) -> list[Event]:
        """Returns what happened."""
        by_connection: dict[Any, int] = {connection: worker for worker, (_, connection) in self._workers.items()}
        events = []
        for connection in multiprocessing.connection.wait(list(by_connection), timeout):
            worker = by_connection[connection]
            try:
                event: Event = self._workers[worker][1].recv()
            except (EOFError, OSError):
                process = self._workers[worker][0]
                process.join(5)
                kind: Literal["lost", "unstarted"] = "lost" if worker in self._ready else "unstarted"
                event = Event(kind, worker, text=f"the process died with exit code {process.exitcode}")
            if event.kind == "ready":
                self._ready.add(worker)
            if event.kind in ("lost", "unstarted"):
                self._end(worker)
            events.append(event)
        return events

    def pids(self) -> list[int]:
        """Returns the process numbers of all workers."""
        return [process.pid for process, _ in self._workers.values()]

    def _end(self, worker: int) -> None:
        process, connection = self._workers.pop(worker)
        if process.is_alive():
            process.kill()
        process.join(10)
        connection.close()
        if worker in self._device:
            self._free.append(self._device.pop(worker))

    def close(self) -> None:
        """End all workers."""
        for worker in list(self._workers):
            self._end(worker)


class RayPool:
    """Actors of a Ray cluster, without restarts: a call to an actor that is being restarted fails at once, which loses work.

    Args:
        make: makes the function that labels, in each actor.
        size: how many; None: one a GPU of the cluster, or one a CPU where there is none.
        address: of the cluster; ``auto`` finds the running one, and starts one here if there is none.
        cpus, gpus: what each actor takes; ``gpus`` None: 1 where the cluster has any.
        environment: set in each actor.
    """

    def __init__(
        self,
        make: Callable[[], Work],
        size: int | None = None,
        *,
        address: str = "auto",
        cpus: float = 1,
        gpus: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise DataError("the executor ray needs a package: pip install 'dadkit[ray]'") from error
        self._ray, self._ours = ray, False
        if not ray.is_initialized():
            runtime = {"env_vars": dict(environment or {})}
            try:
                ray.init(address=address, runtime_env=runtime, log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionError:
                if address != "auto":
                    raise DataError(f"no Ray cluster answers at {address}") from None
                ray.init(runtime_env=runtime, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            self._ours = True
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if gpus is None:
            gpus = 1 if resources.get("GPU") else 0
        self.size = size or max(1, int(resources.get("GPU" if gpus else "CPU", 1) / (gpus or cpus)))
        self._actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Actor)
        self._make, self._count = make, 0
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, tuple[int, bool]] = {}

    def start(self) -> None:
        """Start one worker."""
        self._count += 1
        self._actors[self._count] = actor = self._actor.remote(self._count, self._make)
        self._pending[actor.ready.remote()] = (self._count, False)

    def submit(self, worker: int, unit: int, attempt: int) -> None:
        """Give a worker a unit."""
        self._pending[self._actors[worker].label.remote(unit, attempt)] = (worker, True)

    def wait(self, timeout: float) -> list[Event]:
        """Returns what happened."""
        finished, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=timeout) if self._pending else ([], [])
        if finished:  # whatever else is finished by now
            finished, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        events = []
        for reference in finished:
            worker, working = self._pending.pop(reference)
            try:
                event = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                event = Event("lost" if working else "unstarted", worker, text=str(error))
            if event.kind in ("lost", "unstarted"):
                self._ray.kill(self._actors.pop(worker))
            events.append(event)
        return events

    def close(self) -> None:
        """End all workers."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        if self._ours:
            self._ray.shutdown()


class _Actor:
    """What runs in the cluster."""

    def __init__(self, worker: int, make: Callable[[], Work]) -> None:
        keep_memory()
        self._worker, self._error, self._work = worker, "", None
        try:
            self._work = make()
        except DadkitError as error:
            self._error = str(error)

    def ready(self) -> Event:
        """Returns whether the teachers could be loaded."""
        return Event("ready" if self._work else "unstarted", self._worker, text=self._error)

    def label(self, unit: int, attempt: int) -> Event:
        """Label a unit."""
        work = self._work
        assert work is not None
        return _attempt(self._worker, lambda: work(unit, attempt))
