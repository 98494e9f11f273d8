"""The processes that train one network together, started by torchrun, and the signals that end them.

Each process computes its share of every batch. Gradients are averaged by DistributedDataParallel, and batch norms
and sums are computed over the whole batch, so that the number of processes only changes the time a training takes.
Requests to stop are exchanged over gloo on the CPU: no GPU waits for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.layers import sync_norms
from tools.common.device import find_device
from tools.common.errors import UserError
from tools.common.processes import cores

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE = 20  # seconds that a step may still take, as it may be waiting for a process that has ended


@dataclass(frozen=True)
class Processes:
    """The `world_size` processes of a training; this one has number `rank` and computes on `device`."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    on_machine: int = 1  # number of processes on this machine

    def __str__(self) -> str:
        others = f" and {self.world_size - 1} other processes" if self.world_size > 1 else ""
        return f"{self.device}{others}"

    @property
    def is_main(self) -> bool:
        """Return whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def cores(self) -> int:
        """Return this process's share of the machine's cores."""
        return max(1, cores() // self.on_machine)

    def main_first(self, action: Callable[[], Any]) -> None:
        """Run an action in the main process while the others wait."""
        if self.is_main:
            action()
        self.any(False)

    def sum(self, x: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(x)
        return x

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any process, so that all act at the same step."""
        if self.world_size == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return votes.bool().tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model with gradients and norms over the whole batch of all processes."""
        if self.world_size == 1:
            return model
        sync_norms(model)
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Buffers are equal already: all are statistics of the whole batch.
        wrapped = DistributedDataParallel(model, ids, broadcast_buffers=False, gradient_as_bucket_view=True)
        # Freed after the reducer, which would free the group without letting go of Python: gloo's threads may wait
        # for that, and the process would hang at its end.
        wrapped.group = dist.group.WORLD
        return wrapped

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of an unwrapped module over all processes, and copy the main one's buffers."""
        for weight in module.parameters():
            if weight.grad is not None:
                weight.grad /= self.world_size
                dist.all_reduce(weight.grad)
        saved = module.state_dict()  # without constants, such as windows
        for name, buffer in module.named_buffers():
            if name in saved:
                dist.broadcast(buffer, 0)


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Yield the processes that torchrun started, or only this one without torchrun; device: the setting.

    Raises UserError for a missing device, and if the connection to another process breaks.
    """
    if "LOCAL_WORLD_SIZE" not in os.environ:
        yield Processes(find_device(device))
        return
    local, on_machine = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    chosen = find_device(device)
    if chosen.type == "cuda":
        if ":" in device and on_machine > 1:
            raise UserError(
                f"device: found {device} for {on_machine} processes; with torchrun, give --device cuda"
            )
        chosen = chosen if ":" in device else find_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(chosen, dist.get_rank(), dist.get_world_size(), on_machine)
    except RuntimeError as error:
        if isinstance(error, dist.DistBackendError) or "gloo" in str(error).lower():
            raise UserError("another process of the training has ended; its message says why") from error
        raise
    finally:
        dist.destroy_process_group()


class Interruption:
    """Notes SIGTERM, Ctrl-C and SIGHUP (closed ssh) in `signal`, as a context manager in the main thread.

    A second Ctrl-C ends the program at once. With several processes, which wait for each other, the program gives
    up GRACE seconds after a signal. A signal that is ignored, as SIGHUP under nohup, stays ignored.
    """

    def __init__(self, processes: Processes) -> None:
        self.signal = 0
        self._processes = processes

    def __enter__(self) -> Interruption:
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def exit_code(self) -> int:
        """Return the exit code of a shell for the signal; that of SIGTERM if another process got the signal."""
        return 128 + (self.signal or signal.SIGTERM)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.signal and self._processes.world_size > 1:
            timer = threading.Timer(GRACE, _give_up)
            timer.daemon = True
            timer.start()
        self.signal = number


def _give_up() -> None:
    os.write(2, f"step not finished in {GRACE} s; previous checkpoint kept\n".encode())
    os._exit(1)
