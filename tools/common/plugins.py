"""Packages in which a file of one's own is enough: all files are imported, and a broken one stops no other."""

import importlib
import pkgutil
import traceback
from types import ModuleType
from typing import Any

BROKEN_FILES: dict[str, str] = {}  # each with the line and the reason


def not_loaded() -> str:
    """Return what a message adds where something that a broken file may have had is not found."""
    return "".join(f"; not loaded: {file}, {reason}" for file, reason in BROKEN_FILES.items())


def import_files(package: ModuleType, registered: dict[str, Any]) -> None:
    """Import every file of a package; note those that fail in BROKEN_FILES.

    registered: what the files add themselves to; a failing one's additions are taken back.
    """
    for module in pkgutil.iter_modules(package.__path__):
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
