"""Several .npy files read as one: `<name>.npy`, or the shards `<name>/*.npy` in the order of their names."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .array_file import ArrayFile, DataError


class Shards:
    """Arrays `[N_1, ...]`, `[N_2, ...]`, … as one of shape `[N_1 + N_2 + …, ...]`.

    Attributes: path (of the file or folder), shape, dtype. Raises DataError if there is neither file nor folder,
    if there are both, and where shards differ in anything but their number of items.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        file, parts = Path(folder) / f"{name}.npy", Path(folder) / name
        if file.exists() and parts.is_dir():
            raise DataError(f"{parts}: found shards beside {file.name}, expected one of the two; delete the other")
        paths = sorted(parts.glob("*.npy")) if parts.is_dir() else [file]
        if not paths:
            raise DataError(f"{parts}: found no .npy file in it, expected shards")
        self.path = parts if parts.is_dir() else file
        self._files = [ArrayFile.open(path) for path in paths]
        first = self._files[0]
        for other in self._files[1:]:
            if (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
                raise DataError(
                    f"{other.path}: found {_describe(other)}, expected {_describe(first)} as in {first.path.name}"
                )
        self._ends = list(itertools.accumulate(file.shape[0] if file.shape else 0 for file in self._files))
        self.shape = (self._ends[-1], *first.shape[1:]) if first.shape else ()
        self.dtype = first.dtype

    def read(self, place: Sequence[int]) -> np.ndarray:
        """Return a copy of the entry at an index of the leading axes; the only part of the data that is read."""
        number, *rest = place
        shard = bisect.bisect_right(self._ends, number)
        file = self._files[shard]
        number -= self._ends[shard] - file.shape[0]
        leading = file.shape[: 1 + len(rest)]
        item = file.shape[len(leading) :]
        return file.read(int(np.ravel_multi_index((number, *rest), leading)) * int(np.prod(item)), *item)


def exists(folder: str | Path, name: str) -> bool:
    """Return whether there is a file or a folder of shards with this name."""
    return (Path(folder) / f"{name}.npy").exists() or (Path(folder) / name).is_dir()


def _describe(file: ArrayFile) -> str:
    return f"{file.dtype} items of shape {list(file.shape[1:])}"
