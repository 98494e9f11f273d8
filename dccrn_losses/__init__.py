"""This repository under one name, for programs that have folders called models or tools themselves.

    from dccrn_losses import enhance, load_pretrained
    from dccrn_losses.tools.inference.onnx_graphs import export_step

dccrn_losses.models is the folder models beside this one, and so on.
"""

import builtins
import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
ROOMS = {"config", "dataloader", "losses", "models", "tools"}
OFFERED = {
    "Config": "config",
    "build_loss": "losses",
    "build_model": "models",
    "enhance": "tools.inference",
    "load_model": "models",
    "load_pretrained": "models",
}


def __getattr__(name: str) -> Any:
    """Return what is offered; it loads when it is asked for."""
    if name not in OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(OFFERED)}")
    return getattr(importlib.import_module(f"{__name__}.{OFFERED[name]}"), name)


def import_room(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    """Import as Python does, except that `import models` in a room means the models of this repository."""
    top = name.partition(".")[0]
    if level or top not in ROOMS:
        return builtins.__import__(name, globals, locals, fromlist, level)
    found = builtins.__import__(f"{__name__}.{name}", globals, locals, fromlist)
    return found if fromlist else sys.modules[f"{__name__}.{top}"]


class RoomLoader(SourceFileLoader):
    """Loads a file whose imports of rooms are those of this repository."""

    def exec_module(self, module: ModuleType) -> None:
        module.__builtins__ = {**vars(builtins), "__import__": import_room}
        super().exec_module(module)


class RoomFinder:
    """Finds the files of the rooms below this package's name."""

    @staticmethod
    def find_spec(name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{__name__}."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = RoomLoader(spec.loader.name, spec.loader.path)
        return spec


__path__ = [str(ROOT)]
sys.meta_path.insert(0, RoomFinder)
