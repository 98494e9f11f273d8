"""Programs run as from the shell, in this process."""

import sys
from types import ModuleType

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
