"""dataset.json and items.jsonl: the description of a packed data set and of its items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from config import SAMPLE_RATE
from tools.common.errors import UserError

from .random_draws import Decibel, MixtureDraw

ITEMS = "items.jsonl"
# The grid of the paper, assumed for a set of that shape without dataset.json.
PAPER_NOISE_TYPES = ("seen", "unseen")
PAPER_SNR_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


@dataclass(frozen=True)
class Description:
    """Names of the axes of the test grid, both empty for training and validation, and how to mix on the fly."""

    noise_types: tuple[str, ...] = ()
    snr_db: tuple[float, ...] = ()
    on_the_fly: MixtureDraw | None = None

    @classmethod
    def read(cls, folder: str | Path, grid: Sequence[int] | None) -> Description:
        """Return the description beside the data, checked against the sample rate and the shape of the test grid.

        grid: [noise types, dB values, utterances], or None for training and validation. Raises UserError if
        dataset.json is damaged, contradicts them, or is missing and the grid is not the paper's.
        """
        path = Path(folder) / "dataset.json"
        content = read_description(folder)
        found = content.get("sample_rate", SAMPLE_RATE)
        if found != SAMPLE_RATE:
            raise UserError(f"{path}: found sample_rate {found!r}, expected {SAMPLE_RATE}")
        if grid is None:
            return cls(on_the_fly=_read_draw(path, content.get("on_the_fly")))
        noise_types = content.get("noise_types", PAPER_NOISE_TYPES)
        snr_db = content.get("snr_db", PAPER_SNR_DB)
        if not _are_folder_names(noise_types):
            raise UserError(f"{path}: found noise_types {noise_types!r}, expected different names without / or \\")
        try:
            snr_db = msgspec.convert(snr_db, tuple[Decibel, ...])
        except ValueError:
            raise UserError(f"{path}: found snr_db {snr_db!r}, expected numbers between -1000 and 1000") from None
        if len({f"{value:g}" for value in snr_db}) < len(snr_db):
            raise UserError(f"{path}: found snr_db {snr_db!r}, expected numbers that differ in six digits")
        if (len(noise_types), len(snr_db)) != tuple(grid[:2]):
            source = path if content else f"{path} is missing, so the paper's grid is assumed, which"
            raise UserError(
                f"{source}: names {len(noise_types)} noise types and {len(snr_db)} dB values, but test.npy has "
                f"{grid[0]} and {grid[1]}"
            )
        return cls(tuple(noise_types), snr_db)


def read_description(folder: str | Path) -> dict[str, Any]:
    """Return the content of dataset.json, nothing without that file. Raises UserError if it is no JSON object."""
    path = Path(folder) / "dataset.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, expected an object with sample_rate and so on")
    return content


def read_items(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield split and record of each item, in order; nothing if the set does not list them.

    They are the lines of items.jsonl, read one by one to save memory, or, in sets made before December 2026,
    `items` in dataset.json. Raises UserError.
    """
    path = folder / ITEMS
    if not path.is_file():
        try:
            items = msgspec.convert(read_description(folder).get("items") or {}, dict[str, list[dict[str, Any]]])
        except msgspec.ValidationError as error:
            raise UserError(f"{folder / 'dataset.json'}: found unreadable items ({error})") from None
        for split, those in items.items():
            yield from ((split, item) for item in those)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                item = msgspec.convert(json.loads(line), dict[str, Any])
                split = msgspec.convert(item.pop("split"), str)
            except (ValueError, KeyError, RecursionError) as error:
                raise UserError(f"{path}: line {number} is no item ({error})") from None
            yield split, item


def _read_draw(path: Path, found: object) -> MixtureDraw | None:
    try:
        return None if found is None else msgspec.convert(found, MixtureDraw)
    except ValueError as error:
        raise UserError(
            f"{path}: found on_the_fly {found!r}, expected snr_db, is_range and level_db ({error})"
        ) from None


def _are_folder_names(values: object) -> bool:
    return (
        isinstance(values, (list, tuple))
        and all(isinstance(v, str) and v.strip(". ") and not set(v) & set("/\\\0") for v in values)
        and len({v.casefold() for v in values}) == len(values)
    )
