"""Measurement of time, memory, operations and matrix rate."""

import ctypes
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

MATRIX = 4096  # rows of the matrices whose product gives the machine's rate; half of it on a CPU
# Kinds of operation by their names in torch's profiler; the first match counts.
KINDS = {
    "transposed and plain convolutions": r"conv|cudnn.*(fprop|dgrad|wgrad)|implicit_gemm",
    "recurrence": r"lstm|rnn|_thnn_fused",
    "norms": r"batch_norm|bn_fw|bn_bw",
    "activations": r"prelu|leaky_relu|clamp",
    "copies and joins": r"copy_|aten::cat|CatArray|aten::fill_|constant_pad|aten::clone|direct_copy",
    "transforms": r"fft|aten::stft",
    "optimiser": r"adam|multi_tensor|foreach|norm",
    "matrix products": r"aten::(mm|addmm|bmm)|gemm",
}


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
    for action in variants.values():
        for _ in range(warm_up):
            action()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repetitions):
        for name, action in variants.items():
            seconds[name].append(_time(action, device, clock))
    return {name: statistics.median(values) for name, values in seconds.items()}


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the floating-point operations a second of a large matrix product, best of ten."""
    size = MATRIX if device.type == "cuda" else MATRIX // 2
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(_time(lambda: a @ b, device) for _ in range(10))


def count_flops(action: Callable[[], object]) -> int:
    """Return the operations of convolutions and matrix products, two a multiply-add; without LSTMs on a CPU."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def peak_memory(action: Callable[[], object], device: torch.device) -> int:
    """Return the peak memory of an action in bytes, of the GPU or the process; 0 if unknown."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        action()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # returns freed memory to the system
        Path("/proc/self/clear_refs").write_text("5")  # Linux then restarts the peak
        before = _resident("VmRSS")
        action()
        return _resident("VmHWM") - before
    except (OSError, AttributeError):  # not Linux with glibc
        return 0


def time_shares(action: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return each kind of operation's share of the time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        action()
    took = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in profile.key_averages():
        kind = next(
            (kind for kind, name in KINDS.items() if re.search(name, event.key, re.IGNORECASE)), "the rest"
        )
        took[kind] += event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
    total = sum(took.values())
    return {kind: microseconds / total for kind, microseconds in took.items()}


def _time(
    action: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    _finish(device)
    start = clock()
    action()
    _finish(device)
    return clock() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _resident(name: str) -> int:
    """Return the bytes of resident memory, present (VmRSS) or peak (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", status)[1])
