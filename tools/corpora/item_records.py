"""What dataset.json says about the items of a set, read one by one: there may be more than memory holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataloader.description import ITEMS

SPLIT = re.compile(r'  "(\w+)": \[')


def read_items(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(split, item) of all items, in order; none if the file does not list them.

    The project's own files have an item on each line. Any other is read as a whole. Raises ValueError.
    """
    with path.open(encoding="utf-8") as file:
        if not any(line.rstrip("\n") == ITEMS for line in file) or not _item_lines(path):
            yield from _read_whole(path)
            return
        file.seek(0)
        split = ""
        for line in _after_head(file):
            if match := SPLIT.match(line):
                split = match.group(1)
            elif line.startswith("   {"):
                yield split, json.loads(line.rstrip("\n").rstrip(","))


def _after_head(file: Iterator[str]) -> Iterator[str]:
    for line in file:
        if line.rstrip("\n") == ITEMS:
            break
    yield from file


def _item_lines(path: Path) -> bool:
    """Whether the first item stands on a line of its own."""
    with path.open(encoding="utf-8") as file:
        lines = _after_head(file)
        next(lines, "")
        return next(lines, "").rstrip("\n").rstrip(",").endswith("}")


def _read_whole(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    for split, items in (content.get("items") or {}).items():
        yield from ((split, item) for item in items)
