"""Numbers that come from the device without anyone waiting for them."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Readout:
    """A queue of tensors on their way to the CPU, each with a label."""

    def __init__(self) -> None:
        self._coming: collections.deque[tuple[Any, Tensor, torch.cuda.Event | None]] = collections.deque()

    def put(self, label: Any, numbers: Tensor) -> None:
        """Send numbers of one dimension to the CPU, with a label."""
        event = None
        if numbers.is_cuda:
            pinned = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            numbers = pinned.copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._coming.append((label, numbers, event))

    def arrived(self, wait: bool = False) -> Iterator[tuple[Any, list[float]]]:
        """Yield labels and numbers, in order, of what has come; with `wait`, of all that was put in."""
        while self._coming and (wait or self._coming[0][2] is None or self._coming[0][2].query()):
            label, numbers, event = self._coming.popleft()
            if event is not None:
                event.synchronize()
            yield label, numbers.tolist()
