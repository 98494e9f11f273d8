"""Number formats and kernels of a run."""

from __future__ import annotations

import os

import torch

from config import Config


def set_kernels(config: Config) -> None:
    """Chooses kernels for the whole process: whether products round to TF32, and whether they may vary."""
    tf32 = config.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(config.deterministic)
    # Trying out kernels pays where all batches have one shape, but the choice is not the same every time.
    torch.backends.cudnn.benchmark = not config.deterministic


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """The context to run the network in. bfloat16 has the range of float32, so no gradient needs scaling."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
