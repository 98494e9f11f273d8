"""Packages that a new file extends: all files are imported, and a broken one does not stop the others."""

import importlib
import pkgutil
import traceback
from types import ModuleType
from typing import Any

BROKEN_FILES: dict[str, str] = {}  # path to line and reason


def not_loaded() -> str:
    """Return the broken files, to append to the message about a name that is not found."""
    return "".join(f"; not loaded: {file}, {reason}" for file, reason in BROKEN_FILES.items())


def import_files(package: ModuleType, registered: dict[str, Any]) -> None:
    """Import every file of a package, without its subpackages; those that fail are noted in BROKEN_FILES.

    registered: the registry of the package; entries by a failing file are removed again.
    """
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            continue
        before, file = dict(registered), f"{package.__path__[0]}/{module.name}.py"
        try:
            importlib.import_module(f"{package.__name__}.{module.name}")
        except (Exception, SystemExit) as error:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
            line = (getattr(error, "lineno", None) or 1) if isinstance(error, SyntaxError) else (lines or [1])[-1]
            reason = (str(error).splitlines() or [""])[0]
            BROKEN_FILES[f"{package.__name__}/{module.name}.py"] = f"line {line}: {type(error).__name__}: {reason}"
            registered.clear()
            registered.update(before)
