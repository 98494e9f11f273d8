"""The command line: settings from arguments, and mistakes of the user as one line with exit code 2."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from tools.common.errors import UserError

Settings = TypeVar("Settings")


def parse_arguments(
    kind: type[Settings], description: str | None, args: Sequence[str] | None = None, **options: Any
) -> Settings:
    """Return a dataclass of settings from the command line; options are `tyro.cli`'s.

    Raises UserError, one line, for arguments that cannot be used.
    """
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(
                kind, prog=program(), description=description, args=args, use_underscores=True, **options
            )
    except SystemExit as stop:
        if stop.code == 0:  # --help
            raise
        raise UserError(_one_line(messages.getvalue())) from None


def program() -> str:
    """Return how this program is called, for its usage line."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = Path(sys.argv[0]).name
    return f"python -m {spec.name}" if spec else f"python {name}" if name.endswith(".py") else name


def run_command(main: Callable[[], None]) -> None:
    """Run a program; an exception with an `exit_code` ends it with one line on stderr, Ctrl-C with 130."""
    try:
        main()
    except ValueError as error:
        if not hasattr(error, "exit_code"):
            raise
        # An error raised in a data loading process arrives with that process's traceback before its message.
        print(f"error: {_last_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; what was finished before is kept", file=sys.stderr)
        sys.exit(130)  # as a shell reports SIGINT
    except BrokenPipeError:  # what reads our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {error.filename or 'operating system'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


def _one_line(box: str) -> str:
    """Return tyro's boxed message as one line: its text, the arguments that it suggests, the way to the help.

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
