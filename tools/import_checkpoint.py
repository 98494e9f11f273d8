"""Make a checkpoint of weights that the published DCCRN code trained.

    python -m tools.import_checkpoint UPSTREAM.pt OUT.pt --mask E

UPSTREAM.pt is a state dict, bare or under 'model'. Its settings are read off the shapes of its weights; the mask
has none, so its kind must be named. Nothing in the file is run.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from config import Config
from models import build_model
from models.safe_load import load_tensors
from models.upstream import from_upstream, infer_settings, to_upstream, upstream_transforms
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import refuse_existing
from tools.common.run_folder import save_checkpoint


@dataclasses.dataclass(frozen=True)
class Arguments:
    upstream: tyro.conf.Positional[Path]
    """Weights that the published code saved."""
    out: tyro.conf.Positional[Path]
    """Checkpoint to write."""
    mask: Literal["E", "C", "R"]
    """What the network was trained with; upstream's default is E."""
    overwrite: bool = False
    """Replace a checkpoint that exists."""


def import_checkpoint(arguments: Arguments) -> None:
    refuse_existing(arguments.out, arguments.overwrite)
    path = arguments.upstream
    state = _state_dict(load_tensors(path, "a state dict of upstream's DCCRN"), path)
    try:
        config = Config(mask=arguments.mask, **infer_settings(state))
        _refuse_misfits(state, config, path)
        model = from_upstream(state)
    except KeyError as error:
        raise UserError(f"{path}: missing in it: {error.args[0]}; expected a state dict of DCCRN") from None
    save_checkpoint(arguments.out, {"config": config.to_dict(), "model": model, "epoch": 0})
    settings = ", ".join(f"{name} {getattr(config, name)}" for name in ("mask", *infer_settings(state)))
    print(f"{arguments.out}: DCCRN with {settings}")


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: found no names and tensors in it, expected a state dict, bare or under 'model'")
    other = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise UserError(
            f"{path}: found {other[0]!r}, which is no tensor, expected a state dict, bare or under 'model'"
        )
    return {str(name).removeprefix("module."): tensor.contiguous() for name, tensor in content.items()}


def _refuse_misfits(state: dict[str, Tensor], config: Config, path: Path) -> None:
    """UserError with all names that are unknown or missing, and with weights of another shape."""
    with torch.device("meta"):
        model = build_model(config)
    expected = to_upstream(model.state_dict())
    transforms = upstream_transforms()
    unknown = sorted(state.keys() - expected.keys())
    missing = sorted(expected.keys() - state.keys() - transforms.keys())
    found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(missing)
    found += [
        f"{name} of shape {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in sorted(state.keys() & expected.keys())
        if state[name].shape != expected[name].shape
    ]
    found += [
        f"{name} of another transform than 512-point, with a Hann window of 400 samples"
        for name in sorted(state.keys() & transforms.keys())
        if state[name].shape == transforms[name].shape and (state[name] - transforms[name]).abs().max() > 1e-4
    ]
    if found:
        raise UserError(f"{path}: no DCCRN with {config.kernel_num}, {config.lstm} LSTM: {'; '.join(found)}")


def main() -> None:
    import_checkpoint(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
