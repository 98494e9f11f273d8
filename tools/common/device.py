"""The device that a run computes on, and what makes a CPU quick: how many threads, and memory that stays."""

import contextlib
import ctypes

import torch

from config import DEVICE, is_device
from tools.common.errors import UserError
from tools.common.processes import cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def find_device(name: str) -> torch.device:
    """Return the device called auto, cpu, cuda or cuda:<number>; UserError if this machine does not have it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not is_device(name):
        raise UserError(f"device: found {name!r}, expected {DEVICE}")
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device: found {name}, but PyTorch sees {count} CUDA devices here; try --device cpu")
    return device


def use_threads(threads: int | str, sharing: int = 1) -> int:
    """Compute with so many threads on a CPU, and return how many that are; UserError for none or too many.

    threads: a number, or "auto": torch's choice (OMP_NUM_THREADS, else one for each physical core) within this
    program's share of the cores, where `sharing` programs of the same training run on this machine.
    """
    if threads == "auto":
        threads = min(torch.get_num_threads(), max(1, cores() // sharing))
    if not 1 <= threads <= 1024:  # more end the process
        raise UserError(f"threads: found {threads}, expected 1 to 1024")
    torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the next step takes as much again.

    By default glibc gives blocks of several megabytes back to the system, which then fills them with zeros for the
    next step: 15% of a step of DCCRN in fp32, measured. Other C libraries are left alone.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**30)
