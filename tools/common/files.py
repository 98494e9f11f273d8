"""Files: written whole or not at all, locked, compared by a digest."""

import contextlib
import csv
import errno
import hashlib
import itertools
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from tools.common.errors import UserError

CHUNK = 1 << 16  # bytes


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` if the block succeeds."""
    path = Path(path)
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "may not be written", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.partial{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:  # of a full disk, for example, lacks the name
        error.filename = error.filename or str(path)
        raise
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


def check_output(path: str | Path, inputs: Iterable[str | Path], overwrite: bool) -> None:
    """Raise UserError if writing a file would replace one of the inputs, or another file without `overwrite`."""
    if Path(path).exists() and any(os.path.samefile(path, one) for one in inputs if Path(one).exists()):
        raise UserError(f"{path}: is an input as well; name another file")
    if Path(path).exists() and not overwrite:
        raise UserError(f"{path}: exists already; add --overwrite to replace it, or name another file")


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder, which is created if missing; UserError if another process holds the lock.

    The lock ends with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        advice = "wait for its end, or choose another --name"
        raise UserError(f"{folder}: another process is writing there; {advice}") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):  # a file system without locks
            raise
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)
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
            writer.writerow({k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))})


def write_block(path: str | Path, name: str, text: str) -> None:
    """Replace the part of a Markdown file between `<!-- name … -->` and `<!-- end of name -->`.

    Raises UserError if the file does not have exactly one such part.
    """
    content = Path(path).read_text(encoding="utf-8")
    after, found = _block(name).subn(lambda marks: f"{marks[1]}{text}\n{marks[2]}", content)
    if found != 1:
        raise UserError(f"{path}: found {found} parts <!-- {name} --> … <!-- end of {name} -->, expected one")
    write_text(path, after)


def has_block(path: str | Path, name: str) -> bool:
    """Return whether a Markdown file has a part that `write_block` can replace."""
    return bool(_block(name).search(Path(path).read_text(encoding="utf-8")))


def _block(name: str) -> re.Pattern[str]:
    end = rf"<!-- end of {re.escape(name)} -->"
    return re.compile(rf"(<!-- {re.escape(name)}(?![\w-])[^\n]*-->\n).*?({end})", re.DOTALL)


def fingerprint(*paths: str | Path) -> str:
    """Return a digest of the content of files, or of all files in a folder, without their names."""
    digest = hashlib.blake2b(digest_size=16)
    files = [sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)] for path in paths]
    for file in itertools.chain.from_iterable(files):
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                digest.update(chunk)
        digest.update(str(file.stat().st_size).encode())
    return digest.hexdigest()
