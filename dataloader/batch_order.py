"""The order of training items, shuffled for every epoch, in batches that processes share."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochBatches(Sampler[list[int]]):
    """Batches of the item numbers 0 … items - 1 in an order that depends on seed and epoch only.

    DataLoader's own shuffling also draws the seeds of worker processes from its generator, so that a resumed run,
    which starts new workers, would get another order.

    Args:
        items: Number of items, at least `world_size`.
        batch_size: Items of a global batch, over all processes, at least `world_size`. The last batch holds the
            rest; if that has fewer than `world_size` items, it joins the batch before.
        rank, world_size: Number of this process, and of all. Their parts of a batch differ by one item at most;
            none is empty.
    """

    def __init__(self, items: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self._items = items
        self._rank, self._world_size = rank, world_size
        self._edges = [*range(0, items, batch_size), items]
        if len(self._edges) > 2 and self._edges[-1] - self._edges[-2] < world_size:
            del self._edges[-2]
        self.start_epoch(0, 0)

    def start_epoch(self, seed: int, epoch: int, first: int = 0) -> None:
        """Set the order of the next pass, which begins with the first-th batch."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        self._order = torch.randperm(self._items, generator=generator).tolist()
        self._first = first

    def global_batch(self, number: int) -> list[int]:
        """Return the item numbers of a batch over all processes."""
        return self._order[self._edges[number] : self._edges[number + 1]]

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self._first, len(self)):
            batch = self.global_batch(number)
            start, end = (len(batch) * n // self._world_size for n in (self._rank, self._rank + 1))
            yield batch[start:end]

    def __len__(self) -> int:
        """Return the number of batches of a whole pass."""
        return len(self._edges) - 1
