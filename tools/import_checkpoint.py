"""Make a checkpoint from weights of the published code of a network.

    python -m tools.import_checkpoint UPSTREAM.pt OUT.pt --mask E

UPSTREAM.pt is a state dict, bare or under 'model', of DCCRN, CRN, FullSubNet or GTCRN. Network and settings follow
from names and shapes of the weights, except the mask and FullSubNet's level, which must be given. No code in the
file is run.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from config import Config
from models import build_model, complete
from models.checkpoint import load_tensors
from models.published import PUBLISHED, recognise
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import identify, refuse_existing, refuse_input
from tools.common.run_folder import save_checkpoint


@dataclasses.dataclass(frozen=True)
class Arguments:
    upstream: tyro.conf.Positional[Path]
    """Weights that the published code saved."""
    out: tyro.conf.Positional[Path]
    """Checkpoint to write."""
    mask: str | None = None
    """Mask of the network: E, C or R for DCCRN, E or none for CRN; upstream's default is E."""
    level: str | None = None
    """For FullSubNet: offline or cumulative, how its inputs were normalised."""
    overwrite: bool = False
    """Replace an existing checkpoint."""


def import_checkpoint(arguments: Arguments) -> None:
    refuse_input(arguments.out, identify([arguments.upstream]))
    refuse_existing(arguments.out, arguments.overwrite)
    path = arguments.upstream
    state = _state_dict(load_tensors(path, "a state dict of a published network"), path)
    name = recognise(state)
    if name is None:
        marks = ", ".join(f"{code.mark} ({network})" for network, code in PUBLISHED.items())
        raise UserError(f"{path}: no network that is known here; expected a weight called one of {marks}")
    named = _named(name, arguments)
    try:
        settings = PUBLISHED[name].settings(state)
        config = _config(name, named | settings)
        _refuse_misfits(state, config, path)
        model = PUBLISHED[name].to_ours(state)
    except KeyError as error:
        raise UserError(f"{path}: missing in it: {error.args[0]}; expected a state dict of {name}") from None
    except (IndexError, RuntimeError) as error:
        raise UserError(f"{path}: weights of other shapes than a {name} has ({error})") from None
    save_checkpoint(arguments.out, {"config": config.to_dict(), "model": model, "epoch": 0})
    print(f"{arguments.out}: {name} with {_sizes(named | settings)}")


def _named(network: str, arguments: Arguments) -> dict[str, str]:
    """Return the settings that must be given because they do not follow from weights. Raises UserError."""
    given = {"mask": arguments.mask, "level": arguments.level}
    unread = PUBLISHED[network].unread
    for name, value in given.items():
        if name in unread and value not in unread[name]:
            raise UserError(f"{name}: found {value}, expected one of {', '.join(unread[name])} for {network}")
        if name not in unread and value is not None:
            raise UserError(
                f"{name}: found {value}, but these are weights of {network}, which has none; leave it out"
            )
    return {name: given[name] for name in unread}


def _config(network: str, settings: dict[str, Any]) -> Config:
    """Return the config of a network with these settings."""
    fields = {field.name for field in dataclasses.fields(Config)}
    shared = {name: value for name, value in settings.items() if name in fields}
    own = tuple(f"{name}={value}" for name, value in settings.items() if name not in fields)
    return complete(Config(model=network, network=own, **shared))


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
    for name, tensor in content.items():
        counts = str(name).endswith("num_batches_tracked")
        if tensor.is_floating_point() == counts or not torch.isfinite(tensor).all():
            raise UserError(f"{path}: found {name} of {tensor.dtype}, or NaN in it, expected finite weights")
    return {str(name).removeprefix("module."): tensor.contiguous() for name, tensor in content.items()}


def _refuse_misfits(state: dict[str, Tensor], config: Config, path: Path) -> None:
    """Raise UserError with all unknown and missing names, and weights of other shapes."""
    code = PUBLISHED[config.model]
    with torch.device("meta"):
        model = build_model(config)
    expected = code.to_theirs(model.state_dict())
    constants = code.constants()
    unknown = sorted(state.keys() - expected.keys() - constants.keys())
    missing = sorted(expected.keys() - state.keys() - constants.keys())
    found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(missing)
    found += [
        f"{name} of shape {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in sorted(state.keys() & expected.keys())
        if state[name].shape != expected[name].shape
    ]
    found += [
        f"{name} of another transform than {config.model}'s here"
        for name in sorted(state.keys() & constants.keys())
        if state[name].shape == constants[name].shape and (state[name] - constants[name]).abs().max() > 1e-4
    ]
    if found:
        raise UserError(f"{path}: no {config.model} with {_sizes(code.settings(state))}: {'; '.join(found)}")


def _sizes(settings: dict[str, Any]) -> str:
    """Return settings as text."""
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "the published sizes"


def main() -> None:
    import_checkpoint(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
