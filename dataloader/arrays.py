"""Arrays in .npy files or shards of them, of which only the requested part is read into memory."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.common.errors import UserError


@dataclass(frozen=True)
class ArrayFile:
    """Location of the values in a .npy file, without data or an open file: cheap to send to a process."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int  # bytes before the first value

    @classmethod
    def open(cls, path: Path) -> ArrayFile:
        """Read the header, never pickled objects. Raises UserError for a missing, damaged or cut short file."""
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; expected a packed data set there (docs/data.md says how to make one)"
            )
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except PermissionError:
            raise
        except Exception as error:  # a damaged header can raise anything
            reason = (str(error).splitlines() or ["empty"])[0]
            raise UserError(f"{path}: not a .npy file of numbers ({reason})") from None
        if not isinstance(array, np.memmap):
            raise UserError(f"{path}: not a .npy file of numbers (found an archive)")
        if not array.flags.c_contiguous:
            raise UserError(f"{path}: found Fortran order, expected C order; save np.ascontiguousarray(array)")
        if path.stat().st_size != array.offset + array.nbytes:
            raise UserError(f"{path}: longer than its header says, {list(array.shape)} of {array.dtype}")
        return cls(path, array.dtype, array.shape, array.offset)

    def read(self, *place: int) -> np.ndarray:
        """Return a copy of the entry at an index of the leading axes; without one, of all values.

        Each call makes its own memory map: one that stays open would keep all pages that were read in memory.
        Raises UserError if the file has vanished or has been cut short since it was opened.
        """
        try:
            return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[place])
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{self.path}: was there, but can no longer be read ({reason})") from None


class Shards:
    """Arrays `[N_1, ...]`, `[N_2, ...]`, … of float32 or int16 as one of shape `[N_1 + N_2 + …, ...]`.

    Args:
        folder, name: `<folder>/<name>.npy` is the array, or `<folder>/<name>/` has its shards.
        axes: Name of each axis, or its length if only one is right.

    Attributes: path (of the file or folder), shape. Raises UserError if there is neither file nor folder, if there
    are both, if shards differ in anything but their number of items, for an empty array, another shape or type.
    """

    def __init__(self, folder: str | Path, name: str, *axes: str | int) -> None:
        file, parts = Path(folder) / f"{name}.npy", Path(folder) / name
        if file.exists() and parts.is_dir():
            raise UserError(f"{parts}: found shards beside {file.name}, expected one of the two; delete the other")
        paths = sorted(parts.glob("*.npy")) if parts.is_dir() else [file]
        if not paths:
            raise UserError(f"{parts}: found no .npy file in it, expected shards")
        self.path = parts if parts.is_dir() else file
        self._files = [ArrayFile.open(path) for path in paths]
        first = self._files[0]
        for other in self._files[1:]:
            if (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
                raise UserError(
                    f"{other.path}: found {_describe(other)}, expected {_describe(first)} as in {first.path.name}"
                )
        self._ends = list(itertools.accumulate(file.shape[0] if file.shape else 0 for file in self._files))
        self.shape = (self._ends[-1], *first.shape[1:]) if first.shape else ()
        found = f"{self.path}: found shape {list(self.shape)}"
        wanted = [size if isinstance(axis, str) else axis for axis, size in zip(axes, self.shape, strict=False)]
        if len(self.shape) != len(axes) or list(self.shape) != wanted:
            raise UserError(f"{found}, expected [{', '.join(map(str, axes))}]")
        if 0 in self.shape:
            raise UserError(f"{found}, an empty set; expected at least one item")
        if first.dtype not in (np.float32, np.int16):
            raise UserError(f"{self.path}: found {first.dtype} values, expected float32 or int16")

    def read(self, number: int, *rest: int) -> np.ndarray:
        """Return a copy of the entry at an index of the leading axes; only this entry is read."""
        shard = bisect.bisect_right(self._ends, number)
        file = self._files[shard]
        return file.read(number - self._ends[shard] + file.shape[0], *rest)


def exists(folder: str | Path, name: str) -> bool:
    """Return whether there is a file or a folder of shards with this name."""
    return (Path(folder) / f"{name}.npy").exists() or (Path(folder) / name).is_dir()


def _describe(file: ArrayFile) -> str:
    return f"{file.dtype} items of shape {list(file.shape[1:])}"
