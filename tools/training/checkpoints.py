"""Which checkpoint a command means."""

from __future__ import annotations

from pathlib import Path

from models import pretrained_path
from tools.common.run_folder import find_checkpoint


def checkpoint_path(name: str) -> Path:
    """Return the checkpoint called so: as `find_checkpoint`, any file, or pretrained for the package's own."""
    return pretrained_path() if name == "pretrained" else find_checkpoint(name) or Path(name)
