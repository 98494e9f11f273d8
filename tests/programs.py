"""Programs run as from the shell, in this process, and pages opened in a browser."""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

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


@contextlib.contextmanager
def watched(browser: Any, address: str, origin: str, only_errors: bool = False, **options: Any) -> Iterator[Any]:
    """A page, loaded; in the end, nothing (or no error) is in its console, and nothing came from elsewhere."""
    page = browser.new_page(**options)
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: (said.type == "error" or not only_errors) and problems.append(said.text))
    page.on("request", lambda sent: requests.append(sent.url))
    page.goto(address)
    yield page
    page.close()
    assert problems == []
    assert all(url.startswith((origin, "data:", "blob:")) for url in requests)
