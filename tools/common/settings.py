"""The settings of one experiment from the command line: defaults or a preset, changed by options."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import Literal, TypeVar

import tyro

from config import PRESETS, RENAMED, Config, ModelSettings
from losses.names import COMBINATIONS
from losses.registry import known_terms
from models import NETWORKS, complete, read_checkpoint, read_settings
from models.registry import find_network
from tools.common.command_line import run_parser, with_help
from tools.common.errors import UserError
from tools.common.run_folder import checkpoint_path

Settings = TypeVar("Settings")
Resume = Literal["same", "saved", "override"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Options of a program beside the config."""

    preset: Literal[tuple(PRESETS)] = "config"  # type: ignore[valid-type]
    """Named set of settings to start from; settings on the command line override it."""


@dataclasses.dataclass(frozen=True)
class TrainingArguments(Arguments):
    """Options of train.py beside the config."""

    resume: Resume = "same"
    """If the run's folder holds a run with other settings: same refuses, saved resumes with that run's settings,
    override with these."""


def parse_config(description: str, args: Sequence[str] | None = None) -> Config:
    """Return the complete config of the command line. Raises UserError for settings that cannot be used."""
    return parse_with_config(Arguments, description, args)[0]


def parse_training(description: str) -> tuple[Config, Resume]:
    """Parse as `parse_config` does, with `--resume`, which decides about a run with other settings."""
    config, arguments = parse_with_config(TrainingArguments, description)
    return config, arguments.resume


def parse_with_config(
    kind: type[Settings], description: str, args: Sequence[str] | None = None
) -> tuple[Config, Settings]:
    """Parse as `parse_config` does; return the program's other options, a kind of `Arguments`, as well."""
    args = as_now_called(sys.argv[1:] if args is None else args)
    start = _start(args, kind.preset)
    groups = {}
    for section in reversed(Config.__bases__):
        groups[section.__name__.removesuffix("Settings").lower()] = with_help(section, start, args)
        if section is ModelSettings:
            network = find_network(start.model).settings
            groups["network"] = with_help(network, network(**start.network), args)
    fields = [(name, group, dataclasses.field(default_factory=group)) for name, group in groups.items()]
    whole = dataclasses.make_dataclass(
        "Options", fields, bases=(with_help(kind, args=args),), namespace={"__doc__": ""}
    )
    description = f"{description}\n\n{_losses()}\nNetworks: {', '.join(NETWORKS)}."
    markers = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)
    options = vars(run_parser(whole, description, args, config=markers))
    parts = {name: vars(options.pop(name)) for name in groups}
    network = parts.pop("network")
    settings = {name: value for part in parts.values() for name, value in part.items()}
    config = Config(**settings, network=network)
    if config.init:
        given = {"model": config.model, **config.network}
        for name, expected in {"model": start.model, **start.network}.items():
            if given[name] != expected:
                has = f"the network of {checkpoint_path(config.init)} has {expected}"
                raise UserError(f"{name}: found {given[name]}, but {has}; leave it out")
    return complete(config), kind(**options)


def named_settings(args: Sequence[str]) -> set[str]:
    """Return the names of the settings that the arguments set."""
    return {a[2:].partition("=")[0].replace("-", "_") for a in as_now_called(args) if a.startswith("--")}


def as_now_called(args: Sequence[str]) -> list[str]:
    """Return the arguments with present names: `--network level=offline` is now `--normalisation offline`."""
    if "--network" in args:
        args = [f"--{arg}" if re.match(r"\w+=", arg) else arg for arg in args if arg != "--network"]
    for old, new in RENAMED.items():
        args = [re.sub(rf"^--{old}(?=$|=)", f"--{new}", arg) for arg in args]
    return list(args)


def _losses() -> str:
    base, perceptual = (", ".join(known_terms(perceptual=kind)) for kind in (False, True))
    return (
        f"Loss terms: {base}; perceptual: {perceptual}. Several are joined by +, such as SI-SNR+PMSQE; "
        f"published combinations: {', '.join(COMBINATIONS)}; python -m tools.list_losses explains each."
    )


def _start(args: Sequence[str], preset: str) -> Config:
    """Return the preset's config, with the network of --model, or that of the checkpoint --init.

    These options are read first because the defaults, and the network's options, depend on them.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in (("preset", preset), ("model", ""), ("init", "")):
        parser.add_argument(f"--{name}", nargs="?", const=default, default=default)  # tyro reports a missing value
    first = parser.parse_known_args(args)[0]
    start = Config(**PRESETS.get(first.preset, {}))
    if first.init:
        there = read_settings(read_checkpoint(checkpoint_path(first.init))["config"])
        start = dataclasses.replace(start, model=there.model, network=there.network)
    elif first.model not in ("", start.model):
        start = dataclasses.replace(start, model=first.model, network={})
    return complete(start)
