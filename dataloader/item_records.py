"""What the items of a packed data set are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .description import read_description

ITEMS = "items.jsonl"


def read_items(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return split and record of each item, in order; none if the set does not list them.

    They are the lines of items.jsonl, read one by one because a large set has more than memory holds, or, in sets
    made before December 2026, `items` in dataset.json. Raises ValueError.
    """
    path = folder / ITEMS
    if not path.is_file():
        description = folder / "dataset.json"
        content = read_description(description) if description.is_file() else {}
        for split, items in msgspec.convert(content.get("items") or {}, dict[str, list[dict[str, Any]]]).items():
            yield from ((split, item) for item in items)
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                item = msgspec.convert(json.loads(line), dict[str, Any])
                split = msgspec.convert(item.pop("split"), str)
            except (ValueError, KeyError, RecursionError) as error:
                raise ValueError(f"{path}: line {number} is no item ({error})") from None
            yield split, item
