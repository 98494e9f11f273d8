"""Networks: noisy waveform in, estimated clean waveform out."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from config import Config
from tools.common.errors import UserError

from .registry import NETWORKS, complete, read_settings

PRETRAINED = Path(__file__).with_name("pretrained") / "enhancer.pt"  # the packaged network

for file in pkgutil.iter_modules(__path__):  # all files, so that a new network is one new file
    if not file.ispkg:
        importlib.import_module(f"{__name__}.{file.name}")


def build_model(config: Config) -> nn.Module:
    """Return a new network with the config's settings, initialised from torch's random state.

    Raises UserError for an unknown network, or a setting that it does not have or allow.
    """
    settings = complete(config).network
    return NETWORKS[config.model].kind(**settings)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """Return the network of a checkpoint, rebuilt from the file alone, in evaluation mode.

    Raises UserError if the file cannot be read or its weights do not fit its settings.
    """
    return rebuild_model(path, read_checkpoint(path)).to(device)


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


def rebuild_model(path: str | Path, content: Mapping[str, Any]) -> nn.Module:
    """Return the network of a checkpoint's content, as `load_model` does, on the CPU."""
    try:
        model = build_model(read_settings(content["config"]))
        model.load_state_dict(content["model"])
    except (UserError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: weights do not fit its settings: {reason}") from None
    broken = [name for name, weight in content["model"].items() if not weight.isfinite().all()]
    if broken:
        raise UserError(f"{path}: NaN or infinity in {len(broken)} weights, such as {broken[0]}")
    return model.eval()


def read_trained(path: str | Path, config: Config) -> dict[str, Any]:
    """Return a checkpoint's content. Raises UserError if its network or loss differs from the config's."""
    content = read_checkpoint(path)
    trained, config = read_settings(content["config"]), complete(config)
    names = ("model", "network", "loss", "coupling")
    other = [name for name in names if getattr(trained, name) != getattr(config, name)]
    if other:
        raise UserError(
            f"{path}: was trained with another {', '.join(other)} than config.json beside it says; train the run "
            "to a new best epoch, or choose another --name"
        )
    return content


def load_pretrained(device: str | torch.device = "cpu") -> nn.Module:
    """Return the packaged network, as `load_model` does."""
    return load_model(PRETRAINED, device)


@torch.no_grad()
def enhance_all(model: nn.Module, loader: DataLoader) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield number, noisy, clean and estimated waveform [samples] of every item of a loader, in order.

    model: in evaluation mode, on any device. Raises UserError for an estimate with NaN or infinity.
    """
    device = next(model.parameters(), torch.empty(0)).device
    for noisy, clean, numbers in loader:
        estimate = model(noisy.to(device)).float().cpu()  # [B, samples]
        if not torch.isfinite(estimate).all():
            raise UserError(f"items {numbers.tolist()}: the network's estimate holds NaN or infinity")
        yield from zip(numbers.tolist(), noisy.numpy(), clean.numpy(), estimate.numpy(), strict=True)
