"""Checkpoint files: tensors and plain values only, read without running anything from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_NEEDED = {"config": dict, "model": dict, "epoch": int}


class ModelError(ValueError):
    """A checkpoint that cannot be used; the message names the file, what was found and what was expected."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The checkpoint's content on the CPU: `config`, `model`, `epoch` and whatever else was stored.

    Raises ModelError where the file is missing, is no checkpoint of this project, or would need code to load.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint; train.py writes it")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can trip the reader in any way
        if "weights_only" in str(error):
            reason = "it holds more than tensors and plain values, and loading that would run code"
        else:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path}: not a readable checkpoint, expected one written by train.py ({reason})"
        ) from None
    for key, kind in _NEEDED.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise ModelError(f"{path}: no {key!r} in it; expected a checkpoint written by train.py")
    return content
