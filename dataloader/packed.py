"""Packed data sets: pairs of noisy and clean waveforms in .npy files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tools.common.errors import UserError

from .arrays import Shards
from .description import Description

# Axes of each file before [2, samples], where 0 is noisy and 1 is clean.
LEADING_AXES = {"train": ("N",), "valid": ("N",), "test": ("noise type", "dB", "N")}
INT16_FULL_SCALE = 32768


class PackedDataset(Dataset):
    """Items of `<folder>/<split>.npy`: (noisy [samples], clean [samples], number of the item).

    The split may also be stored in shards, `<folder>/<split>/*.npy`. Files are memory-mapped, never unpickled;
    an item is read when it is requested. Items are numbered over the axes before [2, samples], the last one
    fastest. Stored as float32 or int16 full scale; returned as float32 in [-1, 1].
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self._array = Shards(folder, split, *LEADING_AXES[split], 2, "samples")
        self.path = self._array.path
        self.grid, self.samples = self._array.shape[:-2], self._array.shape[-1]
        self.description = Description.read(folder, self.grid if split == "test" else None)

    def __len__(self) -> int:
        return int(np.prod(self.grid))

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        place = np.unravel_index(number, self.grid)
        pair = as_float(self._array.read(*place))  # [2, samples]
        if not np.isfinite(pair).all():
            index = ", ".join(map(str, place))
            raise UserError(f"{self.path}: item [{index}] holds NaN or infinity, expected finite samples")
        noisy, clean = torch.from_numpy(pair)
        return noisy, clean, number

    def place(self, number: int) -> tuple[str, float, int]:
        """Return noise type, SNR in dB and utterance number of an item of the test grid."""
        noise, snr, utterance = np.unravel_index(number, self.grid)
        return self.description.noise_types[noise], self.description.snr_db[snr], int(utterance)


def as_float(stored: np.ndarray) -> np.ndarray:
    """Return stored float32 or int16 values as float32 in [-1, 1]."""
    return stored.astype(np.float32) / INT16_FULL_SCALE if stored.dtype == np.int16 else stored
