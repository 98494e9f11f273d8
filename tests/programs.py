"""Programs run as from the shell, in this process."""

import sys
from types import ModuleType

import pytest

from tools.common.command_line import run_command


def run(program: ModuleType, *args: object) -> int:
    """What a user runs as `python <program> <args>`; gives its exit code."""
    arguments, sys.argv = sys.argv, [program.__name__, *map(str, args)]
    try:
        run_command(program.main)
    except SystemExit as stop:
        code = stop.code or 0
    else:
        code = 0
    finally:
        sys.argv = arguments
    return code


def refused(capsys: pytest.CaptureFixture[str], program: ModuleType, *args: object) -> str:
    """The one line on standard error that a command ends with, exit code 2."""
    capsys.readouterr()
    code = run(program, *args)
    error = capsys.readouterr().err
    assert (code, error.count("\n"), error[:7]) == (2, 1, "error: "), error
    return error
