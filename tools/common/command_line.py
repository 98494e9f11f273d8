"""The command line: settings from arguments, and errors of the user as one line with an exit code."""

import ast
import bdb
import contextlib
import dataclasses
import inspect
import itertools
import os
import re
import shutil
import signal
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from config import check
from tools.common.errors import UserError

Settings = TypeVar("Settings")
HELP_ALL = {"--help_all", "--help-all"}


def parse_arguments(
    kind: type[Settings], description: str | None, args: Sequence[str] | None = None, **options: Any
) -> Settings:
    """Return a dataclass of settings from the command line, checked by `config.check`; options are `tyro.cli`'s.

    Exits with code 2 and tyro's message for arguments that cannot be used; raises UserError for values.
    """
    args = sys.argv[1:] if args is None else args
    if not dataclasses.is_dataclass(kind):
        return run_parser(kind, description, args, **options)
    settings = kind(**vars(run_parser(with_help(kind, args=args), description, args, **options)))
    check(settings)
    return settings


def run_parser(kind: Any, description: str | None, args: Sequence[str], **options: Any) -> Any:
    """Return what `tyro.cli` returns, with options as they are spelt in Python."""
    spec, name = getattr(sys.modules["__main__"], "__spec__", None), Path(sys.argv[0]).name
    prog = f"python -m {spec.name}" if spec else f"python {name}" if name.endswith(".py") else name
    form = {"width": shutil.get_terminal_size().columns, "subsequent_indent": "  ", "break_on_hyphens": False}
    lines = f"{(description or '').strip()}\n\n--help_all shows the whole text of each option.".splitlines()
    description = "\n".join(line if line.startswith(" ") else textwrap.fill(line, **form) for line in lines)
    args = ["--help" if arg in HELP_ALL else arg for arg in args]
    return tyro.cli(kind, prog=prog, description=description, args=args, use_underscores=True, **options)


def with_help(kind: type, values: Any = None, args: Sequence[str] = ()) -> type:
    """Return a dataclass with the fields of another for tyro: their help in one line, lists as "INT ...".

    values: an object whose attributes are the defaults, instead of the dataclass's own.
    args: those of the program; with --help_all the help is the whole text below a field, else its beginning.
    """
    hints, texts, fields = typing.get_type_hints(kind, include_extras=True), field_help(kind), []
    if HELP_ALL.isdisjoint(args):
        texts = {name: re.split(r"(?<=\.) |; (?!\w+:)", text)[0] for name, text in texts.items()}
    for field in dataclasses.fields(kind):
        about = tyro.conf.arg(help=texts.get(field.name, ""), metavar=_placeholder(hints[field.name]))
        default = field.default if values is None else getattr(values, field.name)
        fields.append((field.name, Annotated[hints[field.name], about], dataclasses.field(default=default)))
    return dataclasses.make_dataclass(kind.__name__, fields, namespace={"__doc__": ""})


def field_help(kind: type) -> dict[str, str]:
    """Return the text below each field of a dataclass, in one line."""
    texts = {}
    for part in reversed(kind.__mro__[:-1]):
        with contextlib.suppress(OSError):  # no source, as in an interactive session
            body = ast.parse(inspect.getsource(part)).body[0].body
            for field, text in itertools.pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    texts[field.target.id] = " ".join(text.value.value.split())
    return texts


def _placeholder(kind: Any) -> str | None:
    """Return how an option's value is written in the help, such as {auto}|INT; nothing for yes or no."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is Annotated:
        return _placeholder(parts[0])
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(map(str, parts)) + "}"
    if typing.get_origin(kind) is tuple:
        return f"{_placeholder(parts[0])} ..."
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return "|".join(_placeholder(part) for part in parts if part is not types.NoneType)
    return None if kind is bool else kind.__name__.upper()


def run_command(main: Callable[[], None]) -> None:
    """Run a program; print a UserError or an error of the system, such as a full disk, in one line on stderr.

    Exit codes: 2 for these errors, 130 for Ctrl-C, 141 if nobody reads the output, 143 for SIGTERM, after the
    clean-up of what was running. Every other error is a defect: Python prints its traceback.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        main()
        print(end="", flush=True)
    except (KeyboardInterrupt, bdb.BdbQuit):  # the latter: quit in breakpoint()
        print("interrupted; what was finished before is kept", file=sys.stderr)
        sys.exit(130)  # as a shell reports SIGINT
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell reports SIGPIPE
    except (UserError, OSError) as error:
        # An error from a data loading process has the traceback of that process before its message.
        line = str(error).strip().splitlines()[-1]
        print(f"error: {line.removeprefix(f'{UserError.__module__}.UserError: ')}", file=sys.stderr)
        sys.exit(2)
