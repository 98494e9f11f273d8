"""The command line: settings from arguments, and mistakes of the user as one line with exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import tyro

from config import NETWORK_SETTINGS, PRESETS, Config, ConfigError
from dataloader import DataError
from losses import LossError, known_terms
from models import NETWORKS, ModelError, complete
from tools.common.errors import UserError

Settings = TypeVar("Settings")
Resume = Literal["same", "saved", "new"]


USER_ERRORS = (UserError, ConfigError, DataError, LossError, ModelError)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a program with a config takes."""

    config: tyro.conf.OmitArgPrefixes[Config]
    preset: Literal[tuple(PRESETS)] = "paper"  # type: ignore[valid-type]
    """Named set of settings to start from; what the command line names besides wins."""


@dataclasses.dataclass(frozen=True)
class _TrainingArguments(Arguments):
    resume: Resume = "same"
    """Where the run's folder holds a run with other settings: same refuses, saved goes on with that run's
    settings, new goes on with these."""


def parse_config(description: str, args: Sequence[str] | None = None, saved: Config | None = None) -> Config:
    """The config that the command line asks for.

    What the arguments do not name comes from `saved` if given (the config of an earlier run), else from
    `--preset`. Raises UserError for arguments that cannot be used.
    """
    return parse_with_config(Arguments, description, args, saved).config


def parse_training(description: str, args: Sequence[str] | None = None) -> tuple[Config, Resume]:
    """As `parse_config`, with `--resume`, which says how to meet a run that has other settings."""
    arguments = parse_with_config(_TrainingArguments, description, args)
    return arguments.config, arguments.resume


def parse_with_config(
    kind: type[Settings], description: str, args: Sequence[str] | None = None, saved: Config | None = None
) -> Settings:
    """As `parse_config`, for a program whose `Arguments` hold more than the config."""
    args = sys.argv[1:] if args is None else args
    start = saved or Config(**PRESETS[_find_preset(args)])
    description = f"{description}\n\n{_losses()}\nNetworks: {', '.join(NETWORKS)}."
    markers = (tyro.conf.FlagConversionOff,)
    found = parse_arguments(kind, description, args, default=kind(start), config=markers)
    try:
        return dataclasses.replace(found, config=complete(_for_network(found.config, start)))
    except ModelError as error:
        raise UserError(str(error)) from None


def _for_network(config: Config, start: Config) -> Config:
    """Return the config without the network settings of a preset that is of another network."""
    if config.model == start.model:
        return config
    unasked = {name: None for name in NETWORK_SETTINGS if getattr(config, name) == getattr(start, name)}
    return dataclasses.replace(config, **unasked)


def parse_arguments(
    kind: type[Settings], description: str | None, args: Sequence[str] | None = None, **options: Any
) -> Settings:
    """A dataclass of settings from the command line; options are `tyro.cli`'s.

    Raises UserError, one line, for arguments that cannot be used.
    """
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(kind, description=description, args=args, use_underscores=True, **options)
    except SystemExit as stop:
        if stop.code == 0:  # --help
            raise
        raise UserError(_one_line(messages.getvalue())) from None


def run_command(main: Callable[[], None]) -> None:
    """Runs a program; a mistake of the user ends it with one line on stderr and exit code 2, Ctrl-C with 130."""
    try:
        main()
    except USER_ERRORS as error:
        # An error raised in a data loading process arrives with that process's traceback before its message.
        print(f"error: {_last_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what was finished before is kept", file=sys.stderr)
        sys.exit(130)  # as a shell reports SIGINT
    except OSError as error:
        print(f"error: {error.filename or 'operating system'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


def _losses() -> str:
    base, perceptual = (", ".join(known_terms(perceptual=kind)) for kind in (False, True))
    return (
        f"Loss terms: {base}; perceptual: {perceptual}. Several are joined by +, such as SI-SNR+PMSQE; "
        "python -m tools.list_losses explains each."
    )


def _find_preset(args: Sequence[str]) -> str:
    """The preset must be known before the other arguments are read, because it makes their defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default="paper")
    try:
        preset = parser.parse_known_args(args)[0].preset
    except argparse.ArgumentError:
        preset = "paper"  # tyro reports the missing value
    return preset if preset in PRESETS else "paper"


def _one_line(box: str) -> str:
    """Tyro's boxed message as one line: its text, the arguments that it suggests, the way to the help.

    Where the terminal has no UTF-8, the box is drawn with hyphens and has a rule under its title.
    """
    rows = [row for line in box.splitlines() if (row := line.strip("│ "))]
    del rows[: 2 if len(rows) > 1 and not set(rows[1]) - set("-") else 1]
    rules = [number for number, row in enumerate(rows) if not set(row) - set("─-")] or [len(rows)]
    message = re.sub(r"^Error parsing \w+: ", "", " ".join(rows[: rules[0]])) or box.strip()
    likely = re.findall(r"--\w+", " ".join(row.split(" ")[0] for row in rows[rules[0] :]))
    hint = f" (did you mean {' or '.join(dict.fromkeys(likely))}?)" if likely and "nrecognized" in message else ""
    return f"{message}{hint}; --help explains every setting"


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")
