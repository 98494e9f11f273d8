"""What a packed set on disk says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataloader.files import read_records


def describe(folder: Path) -> dict[str, Any]:
    """Return dataset.json, with the records of the items by split as `items`."""
    items: dict[str, list] = {}
    for split, item in read_records(folder):
        items.setdefault(split, []).append(item)
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8")) | {"items": items}
