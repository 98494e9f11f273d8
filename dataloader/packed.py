"""Packed data sets: pairs of noisy and clean waveforms in memory-mapped .npy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .description import Description

# Axes of each file before [2, samples], where 0 is noisy and 1 is clean.
LEADING_AXES = {"train": ("N",), "valid": ("N",), "test": ("noise type", "dB", "N")}
INT16_FULL_SCALE = 32768


class DataError(ValueError):
    """Data that cannot be used; the message names the file, what was found and what was expected."""


class PackedDataset(Dataset):
    """Items of `<folder>/<split>.npy`: (noisy [samples], clean [samples], number of the item).

    The file is opened memory-mapped and never with pickle; an item is read when it is asked for. The axes before
    [2, samples] are run through in order, the last one fastest. Stored as float32 or int16 full scale; given as
    float32 in [-1, 1].
    """

    def __init__(self, folder: str | Path, split: str, sample_rate: int) -> None:
        self.path = Path(folder) / f"{split}.npy"
        self._array = self._open()
        axes = (*LEADING_AXES[split], 2, "samples")
        shape = self._array.shape
        if len(shape) != len(axes) or shape[-2] != 2:
            raise DataError(f"{self.path}: found shape {list(shape)}, expected [{', '.join(map(str, axes))}]")
        if 0 in shape:
            raise DataError(f"{self.path}: found shape {list(shape)}, an empty set; expected at least one item")
        if self._array.dtype not in (np.float32, np.int16):
            raise DataError(f"{self.path}: found {self._array.dtype} values, expected float32 or int16")
        self.grid = shape[:-2]
        self.samples = shape[-1]
        try:
            self.description = Description.read(folder, sample_rate, self.grid if split == "test" else None)
        except ValueError as error:
            raise DataError(str(error)) from None

    def __len__(self) -> int:
        return int(np.prod(self.grid))

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        if self._array is None:
            self._array = self._open()
        place = np.unravel_index(number, self.grid)
        pair = np.array(self._array[place])  # the only read, [2, samples]
        if pair.dtype == np.int16:
            pair = pair.astype(np.float32) / INT16_FULL_SCALE
        elif not np.isfinite(pair).all():
            index = ", ".join(map(str, place))
            raise DataError(f"{self.path}: item [{index}] holds NaN or infinity, expected finite samples")
        noisy, clean = torch.from_numpy(pair)
        return noisy, clean, number

    def place(self, number: int) -> tuple[str, float, int]:
        """Noise type, SNR in dB and utterance number of an item of the test grid."""
        noise, snr, utterance = np.unravel_index(number, self.grid)
        return self.description.noise_types[noise], self.description.snr_db[snr], int(utterance)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map is sent to another process as a copy of the whole array; the path is enough.
        return {**self.__dict__, "_array": None}

    def _open(self) -> np.ndarray:
        if not self.path.is_file():
            raise DataError(
                f"{self.path}: no such file; expected a packed data set there (README, Data, says how to make one)"
            )
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"{self.path}: not a .npy file of numbers ({error})") from None
