"""Networks: noisy waveform in, estimated clean waveform out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from config import NETWORK_SETTINGS, Config, ConfigError

from .checkpoint import read_checkpoint
from .dccrn import DCCRN
from .gtcrn import GTCRN
from .masks import limit_attenuation
from .published.dccrn import from_upstream
from .registry import NETWORKS, import_networks, read_settings, register
from .safe_load import ModelError
from .synced_norms import sync_norms

__all__ = [
    "DCCRN",
    "GTCRN",
    "NETWORKS",
    "ModelError",
    "build_model",
    "complete",
    "from_upstream",
    "limit_attenuation",
    "load_model",
    "load_pretrained",
    "pretrained_path",
    "read_checkpoint",
    "register",
    "sync_norms",
]

import_networks(__path__, __name__)


def build_model(config: Config) -> nn.Module:
    """Return a fresh network with the config's settings; its weights follow torch's random state.

    Raises ModelError for a network that is not known, or a setting that it does not have or allow.
    """
    settings = _settings(config)
    return NETWORKS[config.model].kind(**settings)


def complete(config: Config) -> Config:
    """Return the config with the network's own defaults in place of None. Raises ModelError as `build_model`."""
    settings = _settings(config)
    shared = {name: value for name, value in settings.items() if name in NETWORK_SETTINGS}
    own = tuple(f"{name}={value}" for name, value in settings.items() if name not in NETWORK_SETTINGS)
    return dataclasses.replace(config, **shared, network=own)


def _settings(config: Config) -> dict[str, Any]:
    """Return the values that the network is built with."""
    shared = {name: getattr(config, name) for name in NETWORK_SETTINGS if getattr(config, name) is not None}
    return dataclasses.asdict(read_settings(config.model, shared, config.network))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """Return the network of a checkpoint, rebuilt from the file alone, in evaluation mode.

    Raises ModelError where the file cannot be read or does not fit the settings that it carries.
    """
    content = read_checkpoint(path)
    try:
        config = Config.from_dict(content["config"])
        with torch.device("meta"):  # settings that ask for more memory than there is fail before they take it
            build_model(config).load_state_dict(content["model"], assign=True)
        model = build_model(config)
        model.load_state_dict(dict(content["model"]))  # a plain copy: the first one was marked to be assigned
    except (ConfigError, ModelError) as error:
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


def load_pretrained(device: str | torch.device = "cpu") -> nn.Module:
    """Return the trained network that comes with the package, as `load_model` does."""
    return load_model(pretrained_path(), device)


def pretrained_path() -> Path:
    """Return the checkpoint that comes with the package. Raises ModelError if this installation has none."""
    path = Path(__file__).with_name("pretrained") / "enhancer.pt"
    if not path.is_file():
        raise ModelError(f"{path}: no trained network came with this installation; name a checkpoint")
    return path
