"""The device that a run computes on."""

from __future__ import annotations

import torch

from tools.common.errors import UserError


def find_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda or cuda:<number>; UserError if this machine does not have it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device: found {name}, but PyTorch sees {count} CUDA devices here; try --device cpu")
    return device
