"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tools.cli import UserError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there takes its name if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """UserError if the file exists and may not be replaced."""
    if Path(path).exists() and not overwrite:
        raise UserError(f"{path}: exists already; add --overwrite to replace it, or name another file")
