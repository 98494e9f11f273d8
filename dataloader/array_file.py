"""A .npy file read in pieces: what is asked for is all that is ever in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class DataError(ValueError):
    """Data that cannot be used; the message names the file, what was found and what was expected."""

    exit_code = 2  # of a program that ends with it


@dataclass(frozen=True)
class ArrayFile:
    """Where the values of a .npy file lie. It holds no data and no open file: sending it to a process is cheap."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int  # bytes before the first value

    @classmethod
    def open(cls, path: Path) -> ArrayFile:
        """Read the header, never pickled objects. Raises DataError for a missing, damaged or cut short file."""
        if not path.is_file():
            raise DataError(
                f"{path}: no such file; expected a packed data set there (docs/data.md says how to make one)"
            )
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except PermissionError:
            raise
        except Exception as error:  # a damaged header can trip the reader in any way
            reason = (str(error).splitlines() or ["empty"])[0]
            raise DataError(f"{path}: not a .npy file of numbers ({reason})") from None
        if not isinstance(array, np.memmap):
            raise DataError(f"{path}: not a .npy file of numbers (found an archive)")
        if not array.flags.c_contiguous:
            raise DataError(f"{path}: found Fortran order, expected C order; save np.ascontiguousarray(array)")
        if path.stat().st_size != array.offset + array.nbytes:
            raise DataError(f"{path}: longer than its header says, {list(array.shape)} of {array.dtype}")
        return cls(path, array.dtype, array.shape, array.offset)

    def read(self, start: int, *shape: int) -> np.ndarray:
        """Return a copy of the values from the start-th on, counted over the flattened array.

        Each call makes its own memory map: one that stays open would keep every page that was ever read resident.
        Raises DataError where the file has vanished or has been cut short since it was opened.
        """
        offset = self.offset + start * self.dtype.itemsize
        try:
            return np.array(np.memmap(self.path, self.dtype, "r", offset, shape))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path}: was there, but can no longer be read ({reason})") from None

    def read_row(self, row: int) -> np.ndarray:
        """Return a copy of one entry of the first axis."""
        shape = self.shape[1:]
        return self.read(row * math.prod(shape), *shape)
