"""The command line: settings from arguments, and errors of the user as one line with an exit code."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from config import check
from tools.common.errors import UserError

Settings = TypeVar("Settings")


def parse_arguments(
    kind: type[Settings], description: str | None, args: Sequence[str] | None = None, **options: Any
) -> Settings:
    """Return a dataclass of settings from the command line, checked by `config.check`; options are `tyro.cli`'s.

    Exits with code 2 and tyro's message for arguments that cannot be used; raises UserError for values.
    """
    spec, name = getattr(sys.modules["__main__"], "__spec__", None), Path(sys.argv[0]).name
    prog = f"python -m {spec.name}" if spec else f"python {name}" if name.endswith(".py") else name
    settings = tyro.cli(kind, prog=prog, description=description, args=args, use_underscores=True, **options)
    if dataclasses.is_dataclass(settings):
        check(settings)
    return settings


def run_command(main: Callable[[], None]) -> None:
    """Run a program; print a UserError or an error of the system, such as a full disk, in one line on stderr.

    Exit codes: 2 for these errors, 130 for Ctrl-C. Every other error is a defect: Python prints its traceback.
    """
    try:
        main()
        print(end="", flush=True)
    except KeyboardInterrupt:
        print("interrupted; what was finished before is kept", file=sys.stderr)
        sys.exit(130)  # as a shell reports SIGINT
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UserError, OSError) as error:
        # An error from a data loading process has the traceback of that process before its message.
        line = str(error).strip().splitlines()[-1]
        print(f"error: {line.removeprefix(f'{UserError.__module__}.UserError: ')}", file=sys.stderr)
        sys.exit(2)
