"""The command line: settings from arguments, and errors as one line with an exit code."""

import contextlib
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import tyro

from config import FILE_NAME, is_file_name
from tools.common.errors import UserError
from tools.common.plugins import BROKEN_FILES

Settings = TypeVar("Settings")
DEFECT = 70  # exit code, EX_SOFTWARE of sysexits.h


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
    """Return the command that started this program, for its usage line."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = Path(sys.argv[0]).name
    return f"python -m {spec.name}" if spec else f"python {name}" if name.endswith(".py") else name


def check_name(name: str) -> None:
    """Raise UserError if the name is not allowed for a folder in results/."""
    if not is_file_name(name):
        raise UserError(f"name: found {name!r}, expected {FILE_NAME}")


def run_command(main: Callable[[], None]) -> None:
    """Run a program and report an exception as one line on stderr and an exit code.

    Exit codes: that of an exception with an `exit_code`; 2 for errors of the system; 130 for Ctrl-C; 70 for a
    defect of the program, whose traceback goes to a log that the line names.
    """
    _prepare_streams()
    for file, reason in BROKEN_FILES.items():
        print(f"warning: {file}, {reason}; what it registers is left out", file=sys.stderr)
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted; what was finished before is kept", file=sys.stderr)
        sys.exit(130)  # as a shell reports SIGINT
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        line, code = _explain(error)
        print(f"error: {line}", file=sys.stderr)
        sys.exit(code)


def _explain(error: Exception) -> tuple[str, int]:
    """Return the message of an error, in one line, and the exit code."""
    if hasattr(error, "exit_code"):
        # An error from a data loading process has the traceback of that process before its message.
        return _last_line(error), error.exit_code
    if isinstance(error, OSError):
        return f"{error.filename2 or error.filename or 'operating system'}: {error.strerror or error}", 2
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return "not enough memory; try a smaller batch, network or input", 2
    return f"a defect of this program, not of its input: {_log_defect(error)}", DEFECT


def pipe_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return binary stdin and stdout; UserError if either is closed."""
    if sys.stdin is None:
        raise UserError("stdin: found it closed, expected raw PCM")
    if getattr(sys.stdout, "name", "") == os.devnull:  # put there by run_command
        raise UserError("stdout: found it closed, expected somewhere to write raw PCM to")
    return sys.stdin.buffer, sys.stdout.buffer


def _prepare_streams() -> None:
    """Redirect closed streams to /dev/null, and escape characters that the terminal's encoding lacks."""
    for number in range(3):  # else the next opened file would get the number of stdout or stderr
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, until the program ends
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _log_defect(error: Exception) -> str:
    """Write the traceback to a log; return the error and the path of the log in one line."""
    reason = (str(error).strip().splitlines() or [""])[0]
    text = f"{type(error).__name__}: {reason}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="defect_", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write("".join(traceback.format_exception(error)))
    except OSError:
        return f"{text} (the traceback could not be written; is the disk full?)"
    return f"{text}; please report it with {log.name}, which holds the traceback"


def _one_line(box: str) -> str:
    """Return tyro's boxed message as one line: its text, suggested arguments, and a hint to --help.

    Without UTF-8, the box is drawn with hyphens and has a rule under its title.
    """
    rows = [row for line in box.splitlines() if (row := line.strip("│ "))]
    del rows[: 2 if len(rows) > 1 and not set(rows[1]) - set("-") else 1]
    rules = [number for number, row in enumerate(rows) if not set(row) - set("─-")] or [len(rows)]
    message = re.sub(r"^Error parsing \w+: ", "", " ".join(rows[: rules[0]])) or box.strip()
    likely = re.findall(r"--\w+", " ".join(row.split(" ")[0] for row in rows[rules[0] :]))
    hint = f" (did you mean {' or '.join(dict.fromkeys(likely))}?)" if likely and "nrecognized" in message else ""
    return f"{message}{hint}; --help explains every setting"


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].removeprefix(
        f"{type(error).__module__}.{type(error).__name__}: "
    )
