"""The device that a run computes on, its time, and settings for a CPU: threads, and reuse of freed memory."""

import contextlib
import ctypes
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from tqdm import tqdm

from tools.common.errors import UserError
from tools.common.processes import cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def find_device(name: str) -> torch.device:
    """Return the device called auto, cpu, cuda or cuda:<number>; UserError if this machine does not have it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device: found {name}, but PyTorch sees {count} CUDA devices here; try --device cpu")
    return device


def use_threads(threads: int | str, sharing: int = 1) -> int:
    """Set and return the number of threads on a CPU.

    threads: a number, or "auto": torch's choice (OMP_NUM_THREADS, else one for each physical core) within this
        program's share of the cores.
    sharing: number of processes of the same training on this machine.
    """
    if threads == "auto":
        threads = min(torch.get_num_threads(), max(1, cores() // sharing))
    torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, since the next step needs as much again.

    By default glibc returns large blocks to the system, which has to clear them for the next step: this took 15%
    of a step of DCCRN in fp32. No effect with other C libraries.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**30)


def times_side_by_side(
    variants: Mapping[str, Callable[[], object]],
    repetitions: int,
    device: torch.device,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of each variant; they run in turn, so that disturbances affect all of them.

    clock: wall time, or time.process_time for processor time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in tqdm(range(warm_up + repetitions), "measuring", leave=False, disable=None):
        for name, action in variants.items():
            start = clock()
            action()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(clock() - start)
    return {name: statistics.median(values[warm_up:]) for name, values in seconds.items()}
