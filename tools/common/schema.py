"""Reading of files that may have been edited, with a check against a type."""

import csv
import json
from pathlib import Path
from typing import Any

import msgspec

from tools.common.errors import UserError


def read_json(path: Path, kind: Any, advice: str) -> Any:
    """Return the content of a JSON file as the type `kind`; UserError with the advice if it does not match."""
    _refuse_pipe(path)
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), kind)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be used ({error}); {advice}") from None


def read_csv(path: Path, kind: Any, advice: str) -> list[Any]:
    """Return the rows of a CSV file, each as the type `kind`, with NaN for empty fields.

    Raises UserError with the advice if a row does not match, or if the last line is cut off.
    """
    _refuse_pipe(path)
    number, content = 1, path.read_bytes()
    try:
        if b"\n" in content and not content.endswith(b"\n"):
            raise ValueError("cut off in its last line")
        rows = []
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 2):  # noqa: B007, for the message
                rows.append(msgspec.convert({key: v or "nan" for key, v in row.items()}, kind, strict=False))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: line {number}: {error}; {advice}") from None
    return rows


def check(content: Any, kind: Any, where: str, advice: str) -> Any:
    """Return a value as the type `kind`; UserError with the advice if it does not match."""
    try:
        return msgspec.convert(content, kind)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {error}; {advice}") from None


def _refuse_pipe(path: Path) -> None:
    if path.exists() and not path.is_file():  # opening a pipe would wait
        raise UserError(f"{path}: no regular file, such as a folder or a pipe")
