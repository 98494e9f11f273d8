"""Checkpoint files: tensors and plain values only, read without running code, even from an untrusted source."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.common.errors import UserError
from tools.common.tensors import digest_tensors, find_tensors

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
_DTYPES += (torch.int8, torch.uint8, torch.bool)
_NEEDED = {"config": dict, "model": dict, "epoch": int}
_EXPECTED = "one written by train.py"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the checkpoint's content on the CPU: `config`, `model`, `epoch` and whatever else was stored.

    Raises UserError if the file is missing, is no checkpoint of this project, would need code to load, or if its
    tensors do not match their digest (which earlier versions did not save).
    """
    content = load_tensors(path, _EXPECTED)
    for key, kind in _NEEDED.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise UserError(
                f"{path}: no {key!r} in it, expected {_EXPECTED}; tools.import_checkpoint reads others' weights"
            )
    other = [k for k, v in content["model"].items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if other:
        raise UserError(f"{path}: found {other[0]!r} among its weights, expected names and tensors")
    if "digest" in content and content["digest"] != digest_tensors(content):
        raise UserError(
            f"{path}: its tensors are not those that it was saved with; take an intact copy, or delete 'digest' "
            "from its content if you changed them yourself"
        )
    content["model"] = dict(content["model"])  # drops attributes that a file may attach to the dictionary
    return content


def load_tensors(path: str | Path, expected: str) -> Any:
    """Return the content of a file by torch.save, on the CPU, if it is tensors and plain values only.

    Raises UserError if the file is missing, damaged, would need code to load, or claims more than it holds.
    expected: what the error message says was expected.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint, expected {expected}")
    with path.open("rb") as file:
        if not file.read(2).startswith((b"PK", b"\x80")):  # an archive, or a pickle as torch before 1.6 wrote
            raise UserError(f"{path}: not a readable checkpoint, expected {expected}")
    try:
        _refuse_bomb(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about content that is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise anything
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise UserError(
                f"{path}: not a readable checkpoint, it holds more than tensors and plain values, and loading it "
                "would run code; have the code that wrote it save torch.save(model.state_dict(), NEW), "
                "and name NEW here"
            ) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable checkpoint, expected {expected} ({reason})") from None
    try:
        held = sum(_bytes(tensor) for _, tensor in find_tensors(content))
    except ValueError as error:
        raise UserError(f"{path}: found {error}, expected {expected}, with plain tensors") from None
    if held > path.stat().st_size:  # a tensor with stride 0 repeats one stored number
        raise UserError(f"{path}: {path.stat().st_size} bytes, but its tensors claim {held}; expected {expected}")
    return content


def _refuse_bomb(path: Path) -> None:
    """Raise UserError for an archive that unpacks to more than its size: torch.save compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()  # torch does not verify the checksums that it writes
        if damaged:
            raise UserError(f"{path}: damaged, the checksum of {damaged} in it is wrong; take an intact copy")
        unpacked = sum(entry.file_size for entry in archive.infolist())
        compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    if compressed or unpacked > path.stat().st_size:
        raise UserError(
            f"{path}: not a readable checkpoint, {path.stat().st_size} bytes that unpack to {unpacked}; "
            "expected a file that torch.save wrote, which compresses nothing"
        )


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's values; ValueError if it is no plain array."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in _DTYPES:
        raise ValueError(f"a {tensor.dtype}, {tensor.layout} tensor on {tensor.device}")
    return tensor.numel() * tensor.element_size()
