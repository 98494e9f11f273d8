"""The order of training items, shuffled for every epoch, in batches that processes share."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochBatches(Sampler[list[int]]):
    """Batches of the item numbers 0 … items - 1 in an order that depends on seed and epoch only.

    DataLoader's own shuffling also draws the seeds of worker processes from its generator, so that a resumed run,
    which starts new workers, would get another order.

    Args:
        items: Number of items, at least `shares`.
        batch_size: Items of a whole batch over all processes, at least `shares`. The last batch holds the rest; if
            that has fewer than `shares` items, it joins the batch before.
        share, shares: Number of this process, and of all. Their parts of a batch differ by one item at most; none
            is empty.
    """

    def __init__(self, items: int, batch_size: int, share: int = 0, shares: int = 1) -> None:
        self._items = items
        self._share, self._shares = share, shares
        self._edges = [*range(0, items, batch_size), items]
        if len(self._edges) > 2 and self._edges[-1] - self._edges[-2] < shares:
            del self._edges[-2]
        self.start_epoch(0, 0)

    def start_epoch(self, seed: int, epoch: int, first: int = 0) -> None:
        """Set the order of the next pass, which begins with the first-th batch."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        self._order = torch.randperm(self._items, generator=generator).tolist()
        self._first = first

    def whole(self, number: int) -> list[int]:
        """Return the item numbers of a batch over all processes."""
        return self._order[self._edges[number] : self._edges[number + 1]]

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self._first, len(self)):
            batch = self.whole(number)
            start, end = (len(batch) * n // self._shares for n in (self._share, self._share + 1))
            yield batch[start:end]

    def __len__(self) -> int:
        """Return the number of batches of a whole pass."""
        return len(self._edges) - 1
