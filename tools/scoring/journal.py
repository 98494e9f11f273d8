"""Results that outlive an interruption: a file that gains a line for each."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tools.common.files import replacing


class Journal:
    """Results by the number of their item, kept in a file of JSON lines.

    The first line is `key`, which says what the results depend on; a file with another key is started again, and
    lines that hold no result of type `kind`, such as half a line that a killed process left, are dropped. Where
    nothing can be written, results are kept in memory alone.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], kind: Any = Any) -> None:
        self.results: dict[int, Any] = {}
        head = json.dumps(key, sort_keys=True)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        whole = [head]
        if lines[:1] == [head]:
            for line in lines[1:]:
                with contextlib.suppress(ValueError, RecursionError):
                    number, result = msgspec.convert(json.loads(line), tuple[int, kind])
                    self.results[number] = result
                    whole.append(line)
        try:
            if lines != whole:
                with replacing(path) as temporary:
                    temporary.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError:
            self._file = None

    def add(self, number: int, result: Any) -> None:
        """Keep the result of an item; it must be of the type `kind`."""
        self.results[number] = result
        if self._file:
            try:
                self._file.write(json.dumps([number, msgspec.to_builtins(result)]) + "\n")
            except OSError:  # the disk is full; results are kept in memory from here on
                self._file = None

    def close(self) -> None:
        """Close the file; the results stay readable."""
        if self._file:
            self._file.close()
