"""Files that are whole or not there, and what tells them apart."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.common.errors import UserError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its name if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Raise UserError if the file exists and may not be replaced."""
    if Path(path).exists() and not overwrite:
        raise UserError(f"{path}: exists already; add --overwrite to replace it, or name another file")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file that is whole or not there."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line a row, with the first row's keys as the header; a value that is NaN is left empty."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            filled = {key: value for key, value in row.items() if not (type(value) is float and math.isnan(value))}
            writer.writerow(filled)


def write_block(path: str | Path, name: str, text: str) -> None:
    """Renew the part of a Markdown file between `<!-- name … -->` and `<!-- end of name -->`.

    UserError if the file has no such part.
    """
    before = Path(path).read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- {re.escape(name)}\b[^\n]*-->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
    after, found = marked.subn(lambda marks: f"{marks[1]}{text}\n{marks[2]}", before)
    if found != 1:
        raise UserError(
            f"{path}: found {found} parts between <!-- {name} --> and <!-- end of {name} -->, expected one"
        )
    write_text(path, after)


def fingerprint(path: str | Path) -> str:
    """Return digest of the content of a file, or of all files in a folder: equal where they are, wherever they
    lie.
    """
    path = Path(path)
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
