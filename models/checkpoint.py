"""Checkpoint files: tensors and plain values only, read without running code."""

from pathlib import Path
from typing import Any

import torch

from tools.common.errors import UserError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the checkpoint's content on the CPU: `config`, `model`, `epoch` and whatever else was stored.

    Raises UserError if the file is missing, damaged, or no checkpoint of this project.
    """
    content = load_tensors(path)
    if not isinstance(content, dict) or not {"config", "model", "epoch"} <= content.keys():
        raise UserError(f"{path}: no checkpoint by train.py; tools.import_checkpoint reads others' weights")
    return content


def load_tensors(path: str | Path) -> Any:
    """Return the content of a file by torch.save on the CPU, without running code from it.

    Raises UserError if the file is missing, damaged, or holds more than tensors and plain values.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        expected = "expected tensors and plain values, saved by torch.save"
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__}), {expected}") from None
