"""A check that the data of a training do not change."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dataloader.description import read_description
from tools.common.errors import UserError
from tools.common.files import digest_files

Stamp = tuple[int, int, int]
MOST_BYTES = 1 << 28  # of a file


class DataGuard:
    """A digest of a folder's training and validation files and of the settings of mixing.

    Attributes: digest. Only pieces of a long file are read, at the start, and again if its size, modification time
    or inode has changed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._stamps = self._look()
        self.digest = self._digest(self._stamps)

    def check(self, saved: Mapping[str, Any], resume: str) -> bool:
        """Return whether a checkpoint is of other data; UserError if it is, unless resume is "override"."""
        other = saved.get("data", self.digest) != self.digest
        if other and resume != "override":
            raise UserError(
                f"{self._folder}: holds other data than this run was trained on so far; choose another --name, or "
                "--resume override to train on with these"
            )
        return other

    def refuse_change(self) -> None:
        """Raise UserError if the data have changed since the training began."""
        now = self._look()
        if now != self._stamps and self._digest(now) != self.digest:
            raise UserError(
                f"{self._folder}: its data have been replaced during the training; put them back, or choose "
                "another --name; last.pt holds what was trained before"
            )
        self._stamps = now

    def _digest(self, paths: Iterable[Path]) -> str:
        draw = read_description(self._folder).get("on_the_fly")
        return digest_files(paths, MOST_BYTES) + hashlib.blake2b(repr(draw).encode(), digest_size=4).hexdigest()

    def _look(self) -> dict[Path, Stamp]:
        """Return size, modification time and inode of each file, sorted by path."""
        files = [self._folder / f"{split}.npy" for split in ("train", "valid")]
        files += [path for kind in ("train*", "valid*") for path in self._folder.glob(f"{kind}/*.npy")]
        files += self._folder.glob("train_*.npy")
        stats = {path: path.stat() for path in sorted(files) if path.is_file()}
        return {path: (found.st_size, found.st_mtime_ns, found.st_ino) for path, found in stats.items()}
