"""Packed data sets as batches of waveforms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Subset

from config import Config

from .array_file import DataError
from .on_the_fly import OnTheFlyDataset, is_on_the_fly
from .order import EpochOrder
from .packed import PackedDataset

__all__ = ["DataError", "OnTheFlyDataset", "PackedDataset", "build_loader", "shuffle_for_epoch"]


def build_loader(
    config: Config, split: str, device: torch.device | str = "cpu", items: Sequence[int] | None = None
) -> DataLoader:
    """Batches (noisy [B, samples], clean [B, samples], item numbers [B]) of a split: train, valid or test.

    Training items are shuffled, and mixed anew in a set made for that (see shuffle_for_epoch); the others come in
    order. `items` are the numbers of those wanted, all by default. Raises DataError.
    """
    on_gpu = torch.device(device).type == "cuda"
    workers = config.workers if config.workers >= 0 else 4 * on_gpu
    if split == "train" and is_on_the_fly(config.data):
        dataset = OnTheFlyDataset(config.data, config.sample_rate)
    else:
        dataset = PackedDataset(config.data, split, config.sample_rate)
    chosen = dataset if items is None else Subset(dataset, items)
    return DataLoader(
        chosen,
        batch_size=config.batch_size,
        sampler=EpochOrder(len(chosen)) if split == "train" else None,
        generator=torch.Generator(),  # else the seeds of worker processes are drawn from the global one
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=on_gpu,
    )


def shuffle_for_epoch(loader: DataLoader, seed: int, epoch: int) -> None:
    """Makes order and mixtures of the next pass depend on seed and epoch alone: a resumed run sees the same."""
    loader.sampler.start_epoch(seed, epoch)
    if isinstance(loader.dataset, OnTheFlyDataset):
        loader.dataset.start_epoch(seed, epoch)
