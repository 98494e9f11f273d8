"""Networks: noisy waveform in, estimated clean waveform out."""

from __future__ import annotations

from pathlib import Path

import torch

from config import Config, ConfigError

from .checkpoint import read_checkpoint
from .dccrn import DCCRN
from .safe_load import ModelError
from .synced_norms import sync_norms
from .upstream import from_upstream

__all__ = ["DCCRN", "ModelError", "build_model", "from_upstream", "load_model", "read_checkpoint", "sync_norms"]


def build_model(config: Config) -> DCCRN:
    """A fresh network with the config's settings; its weights follow torch's random state."""
    return DCCRN(
        kernel_num=config.kernel_num,
        rnn_units=config.rnn_units,
        rnn_layers=config.rnn_layers,
        mask=config.mask,
        lstm=config.lstm,
        norm=config.norm,
        skip=config.skip,
    )


def load_model(path: str | Path, device: str | torch.device = "cpu") -> DCCRN:
    """The network of a checkpoint, rebuilt from the file alone, in evaluation mode.

    Raises ModelError where the file cannot be read or does not fit the settings that it carries.
    """
    content = read_checkpoint(path)
    try:
        config = Config.from_dict(content["config"])
        with torch.device("meta"):  # settings that ask for more memory than there is fail before they take it
            build_model(config).load_state_dict(content["model"], assign=True)
        model = build_model(config)
        model.load_state_dict(content["model"])
    except ConfigError as error:
        raise ModelError(f"{path}: its settings are not this version's: {error}") from None
    except RuntimeError as error:
        raise ModelError(
            f"{path}: weights do not fit its settings: {str(error).splitlines()[-1].strip()}"
        ) from None
    broken = [name for name, weight in content["model"].items() if not torch.isfinite(weight).all()]
    if broken:
        raise ModelError(
            f"{path}: NaN or infinity in {len(broken)} weights ({broken[0]}), expected finite numbers"
        )
    return model.to(device).eval()
