"""The order of training items, shuffled anew for every epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[int]):
    """Item numbers 0 … items - 1 in an order that depends on seed and epoch alone.

    DataLoader's own shuffling also draws the seeds of worker processes from the same generator, so its order is
    another one where these live on from the epoch before than in a run that starts with this epoch.
    """

    def __init__(self, items: int) -> None:
        self._items = items
        self.start_epoch(0, 0)

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Makes the next pass that of this seed and epoch."""
        self._seed = seed * 1_000_003 + epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        return iter(torch.randperm(self._items, generator=generator).tolist())

    def __len__(self) -> int:
        return self._items
