"""Batches of waveforms from packed data sets."""

import atexit
import multiprocessing
import signal
import tempfile
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Sampler, Subset

from config import Config
from tools.common.errors import UserError

from .datasets import OnTheFlyDataset, PackedDataset, is_on_the_fly

LONGEST_FOLDER = 70  # characters; a worker's socket in it may have 104, of which Python needs 32

__all__ = ["OnTheFlyDataset", "PackedDataset", "build_loader", "shuffle_for_epoch"]


def build_loader(
    config: Config,
    split: str,
    device: torch.device | str = "cpu",
    items: Sequence[int] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Return batches (noisy [B, samples], clean [B, samples], item numbers [B]) of a split: train, valid or test.

    Training items are shuffled, and with --mix on-the-fly mixed again, in every epoch (see shuffle_for_epoch);
    those of the other splits come in order.

    items: numbers of the items wanted, by default all.
    rank, world_size: number of this process, and of all. Each gets its share of every training batch, and every
        world_size-th item of the other splits, in batches no larger than its training batches.
    Raises UserError.
    """
    on_gpu = torch.device(device).type == "cuda"
    workers = config.workers if config.workers >= 0 else 4 * on_gpu
    if split == "train" and is_on_the_fly(config.data):
        dataset = OnTheFlyDataset(config.data, config.augment)
    elif split == "train" and config.augment:
        raise UserError(
            f"augment: found {' '.join(config.augment)}, but the mixtures of {config.data} are made already; "
            "make the set with --mix on-the-fly, or leave augment out"
        )
    else:
        dataset = PackedDataset(config.data, split)
    if split == "train":
        if min(len(dataset), config.batch_size) < world_size:
            found = f"batch_size {config.batch_size} and {len(dataset)} items in {dataset.path}"
            raise UserError(f"found {found}, expected one or more for each process ({world_size})")
        batches = {"batch_sampler": EpochBatches(len(dataset), config.batch_size, rank, world_size)}
    else:
        wanted = range(len(dataset)) if items is None else items
        dataset = Subset(dataset, wanted[rank::world_size])
        batches = {"batch_size": -(-config.batch_size // (world_size * config.accumulate))}
    if workers:
        atexit.register(_end_workers)
        if len(folder := tempfile.gettempdir()) > LONGEST_FOLDER:  # they would hang
            raise UserError(f"TMPDIR: found {folder}, expected a shorter path, or --workers 0")
    return DataLoader(
        dataset,
        **batches,
        generator=torch.Generator(),  # else the seeds of worker processes are drawn from the global one
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=on_gpu,
        worker_init_fn=_leave_signals_to_the_main_process,
    )


def shuffle_for_epoch(loader: DataLoader, seed: int, epoch: int, first: int = 0) -> None:
    """Set order and mixtures of the next pass, which depend on seed and epoch only, as resuming needs.

    The pass begins with the first-th batch; those before it are not loaded.
    """
    loader.batch_sampler.start_epoch(seed, epoch, first)
    if isinstance(loader.dataset, OnTheFlyDataset):
        loader.dataset.start_epoch(seed, epoch)


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


def _leave_signals_to_the_main_process(_: int) -> None:
    """Ignore Ctrl-C, SIGTERM and SIGHUP, which reach all processes: finishing the step still needs batches."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _end_workers() -> None:
    """End the loading processes, which ignore SIGTERM: a program ending within an epoch would wait forever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report their end as an error
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
