"""Files of a packed set: arrays, of which only the requested entry is read, and their description."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from config import SAMPLE_RATE
from tools.common.errors import UserError

from .random_draws import Decibel, MixtureDraw

DESCRIPTION, ITEMS = "dataset.json", "items.jsonl"
INT16_FULL_SCALE = 32768
FolderName = Annotated[str, Meta(pattern=r"^[^/\\]*[^/\\. ][^/\\]*$")]


class Waveforms:
    """An array of float32 or int16 waveforms on disk, `<folder>/<name>.npy`, or `<folder>/<name>/*.npy` joined.

    Args:
        folder, name: Location.
        axes: Name of each axis, or its length if only one is right.

    Attributes: path (of the file or folder), shape. Raises UserError for a missing or damaged file, another shape,
    an empty array and another type.
    """

    def __init__(self, folder: str | Path, name: str, *axes: str | int) -> None:
        shards = Path(folder) / name
        self.path = shards if shards.is_dir() else Path(folder) / f"{name}.npy"
        paths = sorted(shards.glob("*.npy")) if shards.is_dir() else [self.path]
        arrays = [open_array(path) for path in paths]
        if len({(array.shape[1:], array.dtype) for array in arrays}) != 1:
            raise UserError(f"{self.path}: expected .npy files of one type and one shape of items")
        first = arrays[0]
        self._dtype = first.dtype
        self._files = [(path, array.offset, array.shape) for path, array in zip(paths, arrays, strict=True)]
        self._ends = list(itertools.accumulate(len(array) for array in arrays))
        self.shape = (self._ends[-1], *first.shape[1:])
        expected = [size if isinstance(axis, str) else axis for axis, size in zip(axes, self.shape, strict=False)]
        if len(self.shape) != len(axes) or list(self.shape) != expected or 0 in self.shape:
            axes = f"[{', '.join(map(str, axes))}], not empty"
            raise UserError(f"{self.path}: found shape {list(self.shape)}, expected {axes}")
        if first.dtype not in (np.float32, np.int16):
            raise UserError(f"{self.path}: found {first.dtype} values, expected float32 or int16")

    def read(self, number: int, *rest: int) -> np.ndarray:
        """Return the entry at an index of the leading axes, as float32 in [-1, 1]; only this entry is read."""
        place = bisect.bisect_right(self._ends, number)
        path, offset, shape = self._files[place]
        index = (number - self._ends[place] + shape[0], *rest)
        entry = np.empty(shape[len(index) :], self._dtype)
        with path.open("rb", buffering=0) as file:
            file.seek(offset + int(np.ravel_multi_index(index, shape[: len(index)])) * entry.nbytes)
            if file.readinto(entry) != entry.nbytes:
                raise UserError(f"{path}: has been cut short since it was opened")
        return entry if entry.dtype == np.float32 else entry.astype(np.float32) / INT16_FULL_SCALE


def open_array(path: Path) -> np.memmap:
    """Return a memory map of a .npy file, never unpickled. Raises UserError for a missing or damaged one."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; expected a packed data set there (docs/data.md says how to make one)"
        ) from None
    except Exception as error:  # a damaged header can raise anything
        raise UserError(f"{path}: not a .npy file of numbers ({error})") from None
    if not (array.ndim and array.flags.c_contiguous):
        raise UserError(f"{path}: found a number or Fortran order, expected np.ascontiguousarray(array)")
    return array


class Description(msgspec.Struct, frozen=True):
    """dataset.json, as far as training and test read it; without that file, the paper's test grid."""

    sample_rate: Annotated[int, Meta(ge=SAMPLE_RATE, le=SAMPLE_RATE)] = SAMPLE_RATE
    noise_types: tuple[FolderName, ...] = ("seen", "unseen")
    snr_db: tuple[Decibel, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
    on_the_fly: MixtureDraw | None = None

    @classmethod
    def read(cls, folder: str | Path, grid: Sequence[int] | None = None) -> Description:
        """Return the description beside the data.

        grid: shape of the test grid, [noise types, dB values, utterances], that it must have. Raises UserError.
        """
        path = Path(folder) / DESCRIPTION
        try:
            found = msgspec.convert(read_description(folder), cls)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        rows, columns = {name.casefold() for name in found.noise_types}, {f"{snr:g}" for snr in found.snr_db}
        if grid is not None and (len(rows), len(columns)) != tuple(grid[:2]):
            source = path if path.is_file() else f"{path} is missing, so the paper's grid is assumed, which"
            raise UserError(
                f"{source}: names {len(rows)} different noise types and {len(columns)} dB values, but test.npy "
                f"has {grid[0]} and {grid[1]}"
            )
        return found


def read_description(folder: str | Path) -> dict[str, Any]:
    """Return the content of dataset.json, nothing without that file. Raises UserError if it is damaged."""
    path = Path(folder) / DESCRIPTION
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_records(folder: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield split and record of each item, in order; nothing if the set does not list them.

    They are the lines of items.jsonl or, in earlier sets, `items` in dataset.json. Raises
    UserError.
    """
    path = Path(folder) / ITEMS
    if not path.is_file():
        for split, records in read_description(folder).get("items", {}).items():
            yield from ((split, record) for record in records)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = msgspec.json.decode(line, type=dict[str, Any])
                yield record.pop("split"), record
            except (ValueError, KeyError) as error:
                raise UserError(f"{path}: line {number} is no record of an item ({error})") from None
