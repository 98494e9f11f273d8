"""A pool of processes that applies a function to many inputs, in order and with bounded memory."""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from tools.common.errors import UserError

Result = TypeVar("Result")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, in Linux
AHEAD = 4  # inputs a process that are read before their results are needed


# Idle threads of OpenMP spin for about 50 µs: long enough to get the next work without sleeping, short if another
# program uses the core. The default is milliseconds. docs/training.md, "Threads", has the measurements.
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}


def shorten_spin() -> None:
    """Let idle threads release their core soon, unless the user has set how they wait. Call it before torch loads.

    Otherwise they spin while they wait for a thread whose core another program uses: a step on two threads then
    takes 10 to 30 times as much processor time.
    """
    if not {"OMP_WAIT_POLICY", *SHORT_SPIN} & os.environ.keys():
        os.environ.update(SHORT_SPIN)


class ProcessPool:
    """A pool of processes, to be used as a context manager.

    Args:
        processes: Number of processes; None or 0 for one on each core that the program may use, 1 to compute in
            this process.
        shared: First arguments of all calls, sent once to each process.
    """

    def __init__(self, processes: int | None = None, shared: tuple[Any, ...] = ()) -> None:
        self.processes = processes or cores()
        self._shared = shared
        self._executor = self._start() if self.processes > 1 else None

    def _start(self) -> ProcessPoolExecutor:
        # Forking a process with threads of torch or CUDA can hang; a fork server starts before them.
        if "forkserver" in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context("forkserver")
            heavy = {"torch", "scipy.signal"} & sys.modules.keys()
            context.set_forkserver_preload(sorted(heavy))  # once for all: it takes seconds
        else:
            context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            self.processes, mp_context=context, initializer=_prepare, initargs=(self._shared,)
        )

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor:
            self._executor.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Compute `function(*shared, *arguments)` in the background, or now if this is the only process."""
        if self._executor:
            return self._executor.submit(_call, function, arguments)
        future: Future[Result] = Future()
        future.set_result(function(*self._shared, *arguments))
        return future

    def starmap(self, function: Callable[..., Result], inputs: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield `function(*shared, *input)` of each input, in order; only a few inputs are read ahead.

        Errors of the function are raised here; UserError if the system killed a process.
        """
        if not self._executor:
            yield from (function(*self._shared, *arguments) for arguments in inputs)
            return
        waiting = collections.deque()
        try:
            for arguments in inputs:
                waiting.append(self._executor.submit(_call, function, arguments))
                if len(waiting) > AHEAD * self.processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except (BrokenProcessPool, ConnectionError):  # the latter from a killed fork server
            raise UserError(
                f"one of {self.processes} worker processes was killed by the system, as happens when memory runs "
                "out; close other programs, or use fewer processes"
            ) from None


def cores() -> int:
    """Return the number of cores that this program may use, by its affinity and its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text().split()  # microseconds, or "max" for no limit
        return min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


_shared: tuple[Any, ...] = ()  # in a worker process: `shared` of its pool


def _prepare(shared: tuple[Any, ...]) -> None:
    global _shared
    _shared = shared
    threadpool_limits(1)  # every core has a process already: more threads would wait for each other
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the main process: if that is killed, a worker process would wait forever for its next input."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    return function(*_shared, *arguments)
