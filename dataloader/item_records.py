"""What the items of a packed data set are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        records = (read_description(description).get("items") or {}) if description.is_file() else {}
        yield from ((split, item) for split, items in records.items() for item in items)
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                item = json.loads(line)
                split = item.pop("split")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}: line {number} is no item ({error})") from None
            yield split, item
