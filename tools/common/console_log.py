"""log.txt of a run: the output of its programs."""

import contextlib
import datetime
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class _Both:
    """A stream whose text is also written to a file."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream, self._file = stream, file

    def write(self, text: str) -> int:
        self._file.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._file.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def log_console(path: Path, wanted: bool = True) -> Iterator[None]:
    """Append what is printed within to a file, after time and command, and the error that ends it, if any.

    Progress bars go to stderr and are not logged.
    """
    if not wanted:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="replace") as file:
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        file.write(f"\n# {now} {shlex.join(sys.argv)}\n")
        try:
            with contextlib.redirect_stdout(_Both(sys.stdout, file)):
                yield
        except Exception as error:
            file.write(f"error: {error}\n")
            raise
