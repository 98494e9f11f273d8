"""Batches of waveforms from packed data sets."""

import atexit
import multiprocessing
import signal
from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Subset

from config import Config
from tools.common.errors import UserError

from .batch_order import EpochBatches
from .on_the_fly import OnTheFlyDataset, is_on_the_fly
from .packed import PackedDataset

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
        if len(dataset) < world_size:
            raise UserError(
                f"{dataset.path}: found {len(dataset)} items, expected one for each process ({world_size})"
            )
        if config.batch_size < world_size:
            raise UserError(f"batch_size: found {config.batch_size}, expected one for each process ({world_size})")
        batches = {"batch_sampler": EpochBatches(len(dataset), config.batch_size, rank, world_size)}
    else:
        wanted = range(len(dataset)) if items is None else items
        dataset = Subset(dataset, wanted[rank::world_size])
        batches = {"batch_size": -(-config.batch_size // (world_size * config.accumulate))}
    if workers:
        atexit.register(_end_workers)
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
