"""Packed data sets as batches of waveforms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Subset

from config import Config

from .array_file import DataError
from .on_the_fly import OnTheFlyDataset, is_on_the_fly
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
    return DataLoader(
        dataset if items is None else Subset(dataset, items),
        batch_size=config.batch_size,
        shuffle=split == "train",
        generator=torch.Generator(),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=on_gpu,
    )


def shuffle_for_epoch(loader: DataLoader, seed: int, epoch: int) -> None:
    """Makes order and mixtures of the next pass depend on seed and epoch alone: a resumed run sees the same."""
    loader.generator.manual_seed(seed * 1_000_003 + epoch)
    if isinstance(loader.dataset, OnTheFlyDataset):
        loader.dataset.start_epoch(seed, epoch)
