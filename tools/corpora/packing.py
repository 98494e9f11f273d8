"""Writing of a packed data set, whose folder appears only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike

from dataloader.description import ITEMS
from tools.common.errors import UserError
from tools.common.files import put_folder

DESCRIPTION = "dataset.json"
SUFFIXES = (".npy", ".json", ".jsonl", ".png")  # of the files in a set's folder


class PackedSetWriter:
    """Context manager that writes a packed set.

    Files are written to a hidden folder beside the target, which is renamed at the end. If the block ends with an
    exception, Ctrl-C included, the hidden folder is removed and the target is unchanged. Only a killed process
    can leave the hidden folder, `.<target>.partial-<process id>`; delete it.

        with PackedSetWriter(Path("data/demo"), samples=48_000) as writer:
            train = writer.create("train", 400)  # [400, 2, samples], on disk
            train[0] = noisy, clean
            writer.record("train", {"talker": ...})
            writer.describe({...})

    Args:
        target: The set's folder.
        samples: Length of every item.
        dtype: int16 or float32.
        overwrite: Replace an existing set, once the new one is complete.
        shard_bytes: Split arrays of one leading axis into files of about this size; None for one file each.

    Raises UserError if the target exists and may not be replaced, OSError with the path if writing fails.
    """

    def __init__(
        self,
        target: Path,
        samples: int,
        dtype: type | np.dtype = np.int16,
        overwrite: bool = False,
        shard_bytes: float | None = None,
    ) -> None:
        self.target = Path(target)
        self.samples = samples
        self.dtype = np.dtype(dtype)
        self.overwrite = overwrite
        try:
            self._folder = self.target.resolve()  # the target of a link, so that renames stay on one disk
        except RuntimeError:
            raise UserError(f"{self.target}: a link to itself, expected a folder to write") from None
        self._partial = self._folder.with_name(f".{self._folder.name}.partial-{os.getpid()}")
        self.shard_bytes = shard_bytes
        self._open_files = contextlib.ExitStack()
        self._records: IO[str] | None = None

    def __enter__(self) -> PackedSetWriter:
        self._check_target()
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._partial.mkdir()
        return self

    def create(
        self,
        name: str,
        *leading: int,
        item: Sequence[int] | None = None,
        dtype: type | np.dtype | None = None,
    ) -> NewArray | NewShards:
        """Create an array of zeros on disk, `[*leading, *item]`; `array[leading index] = values` writes an item.

        item, dtype: by default `[2, samples]` (0 noisy, 1 clean) of the set's type.
        """
        item, dtype = tuple(item or (2, self.samples)), np.dtype(dtype or self.dtype)
        count = leading[0]
        item_bytes = math.prod(item) * dtype.itemsize
        a_shard = max(1, int(self.shard_bytes // item_bytes)) if self.shard_bytes and len(leading) == 1 else count
        if count <= a_shard:
            return self._new_array(self._partial / f"{name}.npy", leading, item, dtype)
        (self._partial / name).mkdir()
        shards = [
            self._new_array(self._partial / name / f"{n:05d}.npy", (min(a_shard, count - first),), item, dtype)
            for n, first in enumerate(range(0, count, a_shard))
        ]
        return NewShards(shards, a_shard)

    def record(self, split: str, item: dict[str, Any]) -> None:
        """Append the record of the next item of a split to `items.jsonl`."""
        path = self._partial / ITEMS
        with _naming(self.target / path.name):
            self._records = self._records or self._open_files.enter_context(path.open("w", encoding="utf-8"))
            self._records.write(json.dumps({"split": split, **item}, ensure_ascii=False) + "\n")

    def describe(self, description: dict[str, Any]) -> None:
        """Write `dataset.json`."""
        path = self._partial / DESCRIPTION
        with _naming(self.target / path.name):
            path.write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _new_array(self, path: Path, leading: Sequence[int], item: Sequence[int], dtype: np.dtype) -> NewArray:
        name = self.target / path.relative_to(self._partial)
        with _naming(name):
            array = NewArray(path, leading, item, dtype, name)
            self._open_files.callback(array.close)
            array.reserve()
        return array

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
                self._open_files.close()
            if kind is None:
                self._check_target()
                put_folder(self._partial, self._folder)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _check_target(self) -> None:
        if not self._folder.exists():
            return
        if not self.overwrite:
            raise UserError(f"{self.target} exists already; add --overwrite to replace it, or name another folder")
        if not (self._folder / DESCRIPTION).is_file():
            raise UserError(
                f"{self.target} exists and is no packed set (it has no {DESCRIPTION}); "
                "it is not overwritten, name another folder"
            )
        files = (path for path in self._folder.rglob("[!.]*") if path.is_file())
        if other := next((path for path in files if path.suffix not in SUFFIXES), None):
            raise UserError(f"{self.target}: holds {other}, which is no part of a set; name another folder")


class NewArray:
    """A .npy file written item by item: a memory map would keep what was written in memory.

    Args:
        path: File to write.
        leading: Lengths of the axes that index items.
        item: Shape of an item.
        dtype: Type of the values.
        name: Final path of the file, for messages.
    """

    def __init__(
        self, path: Path, leading: Sequence[int], item: Sequence[int], dtype: np.dtype, name: Path
    ) -> None:
        self.leading, self.item, self.dtype, self.name = tuple(leading), tuple(item), dtype, name
        self._file = path.open("w+b")
        shape = (*self.leading, *self.item)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._size = self._start + math.prod(shape) * dtype.itemsize
        self._file.truncate(self._size)

    def reserve(self) -> None:
        """Reserve the file's disk space, so that a full disk is noticed before the work."""
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self._file.fileno(), 0, self._size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot reserve
                raise

    def __setitem__(self, place: int | tuple[int, ...], values: ArrayLike) -> None:
        values = np.ascontiguousarray(values, self.dtype)
        if values.shape != self.item:
            raise ValueError(f"{self.name}: found an item of shape {values.shape}, expected {self.item}")
        number = int(np.ravel_multi_index(place if isinstance(place, tuple) else (place,), self.leading))
        with _naming(self.name):
            self._file.seek(self._start + number * values.nbytes)
            self._file.write(values.data)

    def close(self) -> None:
        """Write buffered data and close the file."""
        with _naming(self.name):
            self._file.close()


class NewShards:
    """Several arrays with one leading axis, written as one."""

    def __init__(self, shards: Sequence[NewArray], items_a_shard: int) -> None:
        self._shards, self._items_a_shard = shards, items_a_shard

    def __setitem__(self, number: int, values: ArrayLike) -> None:
        shard, place = divmod(number, self._items_a_shard)
        self._shards[shard][place] = values


@contextlib.contextmanager
def _naming(name: Path) -> Iterator[None]:
    """Add the final path of a file to errors of writing and reserving, which name none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(name)) from error
