"""The settings of one experiment from the command line, a preset or an earlier run."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import tyro

from config import NETWORK_SETTINGS, PRESETS, Config
from losses import COMBINATIONS, known_terms
from models import NETWORKS, checkpoint_path, complete, read_checkpoint
from tools.common.command_line import parse_arguments
from tools.common.errors import UserError

Settings = TypeVar("Settings")
Resume = Literal["same", "saved", "override"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of a program with a config."""

    config: tyro.conf.OmitArgPrefixes[Config]
    preset: Literal[tuple(PRESETS)] = "config"  # type: ignore[valid-type]
    """Named set of settings to start from; settings on the command line override it."""


@dataclasses.dataclass(frozen=True)
class _TrainingArguments(Arguments):
    resume: Resume = "same"
    """If the run's folder holds a run with other settings: same refuses, saved resumes with that run's settings,
    override with these."""


def parse_config(description: str, args: Sequence[str] | None = None) -> Config:
    """Return the config of the command line. Raises UserError for arguments that cannot be used."""
    return parse_with_config(Arguments, description, args).config


def parse_training(description: str) -> tuple[Config, Resume]:
    """Parse as `parse_config` does, with `--resume`, which decides about a run with other settings."""
    arguments = parse_with_config(_TrainingArguments, description)
    return arguments.config, arguments.resume


def parse_with_config(kind: type[Settings], description: str, args: Sequence[str] | None = None) -> Settings:
    """Parse as `parse_config` does, for a program whose `Arguments` hold more than the config."""
    args = sys.argv[1:] if args is None else args
    start = Config(**PRESETS[_find_preset(args, kind.preset)])
    description = f"{description}\n\n{_losses()}\nNetworks: {', '.join(NETWORKS)}."
    markers = (tyro.conf.FlagConversionOff,)
    found = parse_arguments(kind, description, args, default=kind(start), config=markers)
    config = complete(_for_network(found.config, start))
    if config.init:
        config = _with_network_of(checkpoint_path(config.init), config, named_settings(args))
    return dataclasses.replace(found, config=config)


def named_settings(args: Sequence[str]) -> set[str]:
    """Return the names of the settings that the arguments set."""
    return {argument[2:].partition("=")[0].replace("-", "_") for argument in args if argument.startswith("--")}


def _for_network(config: Config, start: Config) -> Config:
    """Return the config without the network settings of a preset for another network."""
    if config.model == start.model:
        return config
    unasked = {name: None for name in NETWORK_SETTINGS if getattr(config, name) == getattr(start, name)}
    return dataclasses.replace(config, **unasked)


def _with_network_of(path: Path, config: Config, asked: set[str]) -> Config:
    """Return the config with the network settings of a checkpoint; UserError if others are requested."""
    there = complete(Config.from_dict(read_checkpoint(path)["config"]))
    names = ("model", *NETWORK_SETTINGS, "network")
    for name in names:
        found, expected = getattr(config, name), getattr(there, name)
        if name in asked and found != expected:
            raise UserError(f"{name}: found {found}, but the network of {path} has {expected}; leave it out")
    return dataclasses.replace(config, **{name: getattr(there, name) for name in names})


def _losses() -> str:
    base, perceptual = (", ".join(known_terms(perceptual=kind)) for kind in (False, True))
    return (
        f"Loss terms: {base}; perceptual: {perceptual}. Several are joined by +, such as SI-SNR+PMSQE; "
        f"published combinations: {', '.join(COMBINATIONS)}; python -m tools.list_losses explains each."
    )


def _find_preset(args: Sequence[str], default: str) -> str:
    """Return the preset, which must be known first because it sets the defaults of the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default=default)
    try:
        preset = parser.parse_known_args(args)[0].preset
    except argparse.ArgumentError:
        preset = default  # tyro reports the missing value
    return preset if preset in PRESETS else default
