"""Packed data sets as batches of waveforms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Subset

from config import Config

from .packed import DataError, PackedDataset

__all__ = ["DataError", "PackedDataset", "build_loader", "shuffle_for_epoch"]


def build_loader(
    config: Config, split: str, device: torch.device | str = "cpu", items: Sequence[int] | None = None
) -> DataLoader:
    """Batches (noisy [B, samples], clean [B, samples], item numbers [B]) of a split: train, valid or test.

    Training items are shuffled (see shuffle_for_epoch), the others come in order. `items` are the numbers of
    those wanted, all by default. Raises DataError.
    """
    on_gpu = torch.device(device).type == "cuda"
    workers = config.workers if config.workers >= 0 else 4 * on_gpu
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
    """Makes the order of the next pass depend on seed and epoch alone, so that a resumed run sees the same."""
    loader.generator.manual_seed(seed * 1_000_003 + epoch)
