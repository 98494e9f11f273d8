"""Atomic writing of files, locks, and digests of files."""

import contextlib
import csv
import errno
import hashlib
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from tools.common.errors import UserError

PIECE = 1 << 16  # bytes


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` if the block succeeds."""
    path = Path(path)
    if not path.name:
        raise UserError(f"{path}: a folder, expected the name of a file")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "may not be written", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.partial{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put_folder(new: Path, folder: Path) -> None:
    """Rename a folder to `folder`, replacing an existing one, which is restored if that fails."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Raise UserError if the file exists and may not be replaced."""
    if Path(path).exists() and not overwrite:
        raise UserError(f"{path}: exists already; add --overwrite to replace it, or name another file")


def identify(paths: Iterable[str | Path]) -> dict[tuple[int, int], Path]:
    """Return existing paths by device and inode, which are the same for all names of a file."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found[status.st_dev, status.st_ino] = Path(path)
    return found


def refuse_input(output: str | Path, inputs: Mapping[tuple[int, int], Path]) -> None:
    """Raise UserError if writing the output would replace one of the inputs, a result of `identify`."""
    for path in (inputs[same] for same in identify([output]) if same in inputs):
        raise UserError(f"{path}: would be replaced by the output {output}; name another file")


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder, which is created if missing; UserError if another process holds the lock.

    The lock ends with the process, however that ends. On a file system without locks it is always granted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"{folder}: another process is writing there; wait for its end, or choose another --name"
        ) from None
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # not empty: something was written
            folder.rmdir()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file atomically, with the first row's keys as header and empty fields for NaN."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            filled = {key: value for key, value in row.items() if not (type(value) is float and math.isnan(value))}
            writer.writerow(filled)


def write_block(path: str | Path, name: str, text: str) -> None:
    """Replace the part of a Markdown file between `<!-- name … -->` and `<!-- end of name -->`.

    Raises UserError if the file does not have exactly one such part.
    """
    after, found = _block(name).subn(lambda marks: f"{marks[1]}{text}\n{marks[2]}", _read_markdown(path))
    if found != 1:
        raise UserError(
            f"{path}: found {found} parts between <!-- {name} --> and <!-- end of {name} -->, expected one"
        )
    write_text(path, after)


def has_block(path: str | Path, name: str) -> bool:
    """Return whether a Markdown file has a part that `write_block` can replace."""
    return bool(_block(name).search(_read_markdown(path)))


def _block(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(<!-- {re.escape(name)}(?![\w-])[^\n]*-->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL
    )


def _read_markdown(path: str | Path) -> str:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def fingerprint(path: str | Path) -> str:
    """Return a digest of the content of a file, or of all files in a folder, without their names."""
    path = Path(path)
    return digest_files(sorted(path.iterdir()) if path.is_dir() else [path])


def digest_files(paths: Iterable[Path], most: float = math.inf) -> str:
    """Return a digest of the content and sizes of files, in order.

    most: bytes to read of a file; of a longer one, pieces spread over all of it are read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in paths:
        size = file.stat().st_size
        with file.open("rb") as opened:
            for number in range(-(-min(size, most) // PIECE)):
                if size > most:
                    opened.seek(number * size * PIECE // most)
                digest.update(opened.read(PIECE))
        digest.update(str(size).encode())
    return digest.hexdigest()
