"""Networks: noisy waveform in, estimated clean waveform out."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from config import NETWORK_SETTINGS, Config
from tools.common.errors import UserError
from tools.common.run_folder import find_checkpoint

from .checkpoint import read_checkpoint
from .dccrn import DCCRN
from .gtcrn import GTCRN
from .norms import sync_norms
from .registry import NETWORKS, read_settings, register

__all__ = [
    "DCCRN",
    "GTCRN",
    "NETWORKS",
    "build_model",
    "checkpoint_path",
    "complete",
    "enhance",
    "load_model",
    "load_pretrained",
    "read_checkpoint",
    "read_trained",
    "rebuild_model",
    "register",
    "sync_norms",
]

for file in pkgutil.iter_modules(__path__):  # all files, so that a new network is one new file
    if not file.ispkg:
        importlib.import_module(f"{__name__}.{file.name}")


def build_model(config: Config) -> nn.Module:
    """Return a new network with the config's settings, initialised from torch's random state.

    Raises UserError for an unknown network, or a setting that it does not have or allow.
    """
    settings = read_settings(config)
    return NETWORKS[config.model].kind(**settings)


def complete(config: Config) -> Config:
    """Return the config with None replaced by the network's defaults. Raises UserError as `build_model`."""
    settings = read_settings(config)
    shared = {name: value for name, value in settings.items() if name in NETWORK_SETTINGS}
    own = tuple(f"{name}={value}" for name, value in settings.items() if name not in NETWORK_SETTINGS)
    return dataclasses.replace(config, **shared, network=own)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """Return the network of a checkpoint, rebuilt from the file alone, in evaluation mode.

    Raises UserError if the file cannot be read or its weights do not fit its settings.
    """
    return rebuild_model(path, read_checkpoint(path)).to(device)


def rebuild_model(path: str | Path, content: Mapping[str, Any]) -> nn.Module:
    """Return the network of a checkpoint's content, as `load_model` does, on the CPU."""
    try:
        config = Config.from_dict(content["config"])
        with torch.device("meta"):  # settings that would need too much memory fail here, before it is allocated
            build_model(config).load_state_dict(content["model"], assign=True)
        model = build_model(config)
        model.load_state_dict(dict(content["model"]))  # a copy: assign=True was noted in the dictionary
    except UserError as error:
        raise UserError(f"{path}: its settings are not this version's: {error}") from None
    except RuntimeError as error:
        raise UserError(
            f"{path}: weights do not fit its settings: {str(error).splitlines()[-1].strip()}"
        ) from None
    broken = [name for name, weight in content["model"].items() if not torch.isfinite(weight).all()]
    if broken:
        raise UserError(f"{path}: NaN or infinity in {len(broken)} weights ({broken[0]}), expected finite numbers")
    model.eval()
    with torch.inference_mode():  # finite weights can still give NaN: negative variances, huge values
        estimate = model(0.1 * torch.sin(0.3 * torch.arange(1600.0))[None])
    if not torch.isfinite(estimate).all():
        raise UserError(f"{path}: its network gives NaN or infinity for a tone; train or choose another")
    return model


def read_trained(path: str | Path, config: Config) -> dict[str, Any]:
    """Return a checkpoint's content. Raises UserError if its network or loss differs from the config's."""
    content = read_checkpoint(path)
    trained, wanted = complete(Config.from_dict(content["config"])), complete(config)
    names = ("model", "network", "loss", "coupling", *NETWORK_SETTINGS)
    other = [name for name in names if getattr(trained, name) != getattr(wanted, name)]
    if other:
        raise UserError(
            f"{path}: was trained with another {', '.join(other)} than config.json beside it says; train the run "
            "to a new best epoch, or choose another --name"
        )
    return content


def load_pretrained(device: str | torch.device = "cpu") -> nn.Module:
    """Return the packaged network, as `load_model` does."""
    return load_model(_pretrained_path(), device)


@torch.no_grad()
def enhance(model: nn.Module, loader: DataLoader) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield number, noisy, clean and estimated waveform [samples] of every item of a loader, in order.

    model: in evaluation mode, on any device. Raises UserError for an estimate with NaN or infinity.
    """
    device = next(model.parameters(), torch.empty(0)).device
    for noisy, clean, numbers in loader:
        estimate = model(noisy.to(device)).float().cpu()  # [B, samples]
        if not torch.isfinite(estimate).all():
            raise UserError(f"items {numbers.tolist()}: the network's estimate holds NaN or infinity")
        yield from zip(numbers.tolist(), noisy.numpy(), clean.numpy(), estimate.numpy(), strict=True)


def checkpoint_path(name: str) -> Path:
    """Return the checkpoint of a name: `pretrained`, what `find_checkpoint` takes, or any file."""
    return _pretrained_path() if name == "pretrained" else find_checkpoint(name) or Path(name)


def _pretrained_path() -> Path:
    """Return the path of the packaged checkpoint. Raises UserError if this installation has none."""
    path = Path(__file__).with_name("pretrained") / "enhancer.pt"
    if not path.is_file():
        raise UserError(f"{path}: no trained network came with this installation; name a checkpoint")
    return path
