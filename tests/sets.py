"""What a packed set on disk says about itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dataloader.files import read_records


def describe(folder: Path) -> dict[str, Any]:
    """Return dataset.json, with the records of the items by split as `items`."""
    items: dict[str, list] = {}
    for split, item in read_records(folder):
        items.setdefault(split, []).append(item)
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8")) | {"items": items}


def items_of(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Yield noisy and clean [samples], as they are stored but in float64, and the record of every item."""
    description = describe(folder)
    for split, records in description["items"].items():
        array = np.load(folder / f"{split}.npy").astype(np.float64)
        for number, record in enumerate(records):
            place = number
            if split == "test":
                place = description["noise_types"].index(record["row"]), record["column"], record["utterance"]
            yield *array[place], record


def snr_db(noisy: np.ndarray, clean: np.ndarray, record: dict[str, Any]) -> float:
    """Return the SNR of a stored item over its active span."""
    span = slice(*record["active"])
    return float(10 * np.log10(np.sum(clean[span] ** 2) / np.sum((noisy[span] - clean[span]) ** 2)))
