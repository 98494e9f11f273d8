"""The processes that train one network together: one on each GPU, on one machine or many, started by torchrun.

Each computes its share of every batch. Gradients are averaged by DistributedDataParallel, and batch norms and sums
are computed over the whole batch, so that the number of processes only changes the time a training takes.
Requests to stop are exchanged over gloo on the CPU: no GPU waits for them.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models import sync_norms
from tools.common.device import find_device
from tools.common.errors import UserError
from tools.common.processes import cores


class OtherProcessEnded(Exception):
    """Another process of the training has ended; its own message gives the reason."""


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
        """Run an action in the first process while the others wait."""
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
        return DistributedDataParallel(model, ids, broadcast_buffers=False, gradient_as_bucket_view=True)


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Yield the processes that torchrun started, or only this one without torchrun; device: the setting.

    Raises UserError for a missing device, and OtherProcessEnded if the connection to another process breaks.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(find_device(device))
        return
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    wrong = [name for name in names if not re.fullmatch("[0-9]{1,9}", os.environ.get(name, ""))]
    if wrong or not os.environ.get("MASTER_ADDR"):
        name = (wrong or ["MASTER_ADDR"])[0]
        raise UserError(
            f"environment: found {name}={os.environ.get(name)!r} beside WORLD_SIZE, expected what torchrun sets; "
            "start with torchrun, or unset WORLD_SIZE"
        )
    local, on_machine = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    chosen = find_device(device)
    if chosen.type == "cuda":
        if ":" in device and on_machine > 1:
            raise UserError(f"device: found {device} for {on_machine} processes; with torchrun, name cuda alone")
        chosen = chosen if ":" in device else find_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(chosen, dist.get_rank(), dist.get_world_size(), on_machine)
    except RuntimeError as error:
        if isinstance(error, dist.DistBackendError) or "gloo" in str(error).lower():
            raise OtherProcessEnded from error
        raise
    finally:
        dist.destroy_process_group()
