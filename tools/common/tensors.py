"""The tensors in a checkpoint's nested dictionaries and lists."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_DEEPEST = 32  # levels of dictionaries and lists; a checkpoint has six


def find_tensors(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and value of every tensor. Raises ValueError for too deep nesting."""
    if depth > _DEEPEST:
        raise ValueError(f"values nested more than {_DEEPEST} deep")
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, (Mapping, list, tuple)):
        for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from find_tensors(value, f"{name}/{key}", depth + 1)


def digest_tensors(content: Any) -> str:
    """Return a digest of the names, types, shapes and values of all tensors, the same on every device."""
    digest = hashlib.sha256()
    for name, tensor in find_tensors(content):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode(errors="backslashreplace"))
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
