"""Checkpoint files: tensors and plain values only, read without running code."""

from pathlib import Path
from typing import Any

from torch import Tensor

from tools.common.tensors import digest_tensors

from .safe_load import ModelError, load_tensors

_NEEDED = {"config": dict, "model": dict, "epoch": int}
_EXPECTED = "one written by train.py"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the checkpoint's content on the CPU: `config`, `model`, `epoch` and whatever else was stored.

    Raises ModelError if the file is missing, is no checkpoint of this project, would need code to load, or if its
    tensors do not match their digest (which earlier versions did not save).
    """
    content = load_tensors(path, _EXPECTED)
    for key, kind in _NEEDED.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise ModelError(
                f"{path}: no {key!r} in it, expected {_EXPECTED}; tools.import_checkpoint reads others' weights"
            )
    other = [k for k, v in content["model"].items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if other:
        raise ModelError(f"{path}: found {other[0]!r} among its weights, expected names and tensors")
    if "digest" in content and content["digest"] != digest_tensors(content):
        raise ModelError(
            f"{path}: its tensors are not those that it was saved with; take an intact copy, or delete 'digest' "
            "from its content if you changed them yourself"
        )
    content["model"] = dict(content["model"])  # drops attributes that a file may attach to the dictionary
    return content
