"""Writing a packed data set: a folder that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tools.cli import UserError

DESCRIPTION = "dataset.json"


class PackedSetWriter:
    """Context manager around the making of one packed set.

    Everything goes into a hidden folder beside the target, and one rename at the end turns it into the target.
    If the block ends with an exception, Ctrl-C included, the hidden folder is removed and the target is as it
    was. Only a killed process can leave the hidden folder, `.<target>.partial-<process id>`; delete it.

        with PackedSetWriter(Path("data/demo"), samples=48_000) as writer:
            train = writer.create("train", 400)  # [400, 2, samples], on disk
            train[0] = noisy, clean
            writer.describe({...})

    Args:
        target: The set's folder.
        samples: Length of every item.
        dtype: int16 or float32.
        overwrite: Replace an existing set, once the new one is complete.

    Raises UserError if the target exists and may not be replaced, OSError with the path if the disk refuses.
    """

    def __init__(
        self,
        target: Path,
        samples: int,
        dtype: type | np.dtype = np.int16,
        overwrite: bool = False,
    ) -> None:
        self.target = Path(target)
        self.samples = samples
        self.dtype = np.dtype(dtype)
        self.overwrite = overwrite
        self._folder = self.target.resolve()  # where a link points to, so that renames stay on one disk
        self._partial = self._sibling("partial")
        self._arrays: list[np.memmap] = []

    def __enter__(self) -> PackedSetWriter:
        self._check_target()
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._partial.mkdir()
        return self

    def create(self, name: str, *grid: int) -> np.memmap:
        """A new `<name>.npy`, zeros `[*grid, 2, samples]`; on axis -2, 0 is noisy and 1 is clean."""
        path = self._partial / f"{name}.npy"
        with self._naming(path):
            array = np.lib.format.open_memmap(path, "w+", self.dtype, (*grid, 2, self.samples))
            _reserve(path)
        self._arrays.append(array)
        return array

    def describe(self, description: dict[str, Any]) -> None:
        """Writes `dataset.json`."""
        path = self._partial / DESCRIPTION
        with self._naming(path):
            path.write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        for array in self._arrays:
            array.flush()
        self._check_target()
        if not self._folder.exists():
            self._partial.rename(self._folder)
            return
        old = self._sibling("old")
        self._folder.rename(old)
        try:
            self._partial.rename(self._folder)
        except BaseException:
            old.rename(self._folder)
            raise
        shutil.rmtree(old, ignore_errors=True)

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

    @contextlib.contextmanager
    def _naming(self, path: Path) -> Iterator[None]:
        """Errors of the disk name the file as the user will know it: writing and reserving name none."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.target / path.name)) from error

    def _sibling(self, role: str) -> Path:
        return self._folder.parent / f".{self._folder.name}.{role}-{os.getpid()}"


def _reserve(path: Path) -> None:
    """Takes the file's disk space at once: a memory map that meets a full disk later kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot reserve
                raise
