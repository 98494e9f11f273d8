"""The structure that docs/design.md promises: who imports whom, and what a file may need."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "losses", "dataloader", "tools")
FILES = [
    ROOT / "config.py",
    *(file for name in PACKAGES for file in sorted((ROOT / name).rglob("*.py"))),
]
COMMANDS = "tools/*"  # may import all
ERROR = ROOT / "tools/common/errors.py"  # may be imported by all
ROW = re.compile(r"^\| (`[^|]+) \|[^|]+\| ([^|]+) \|$", re.MULTILINE)


def rules() -> dict[str, set[str]]:
    """Return what each room may import, as the table of docs/design.md has it."""
    rows = ROW.findall((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    rooms = {file.parent.name if room(file).startswith("tools/") else room(file): room(file) for file in FILES}
    return {
        name.strip("`/").removesuffix(".py"): {rooms[other] for other in allowed.split(", ") if other in rooms}
        for name, allowed in rows
    }


def room(file: Path) -> str:
    """Return the room of a file of the project."""
    first, *rest = file.relative_to(ROOT).with_suffix("").parts
    if first != "tools":
        return first
    return f"tools/{rest[0]}" if len(rest) > 1 else COMMANDS


def imported(file: Path) -> set[Path]:
    """Return the project's files that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            base = ".".join(file.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            names = [".".join(filter(None, (base, node.module)))]
        for path in (ROOT.joinpath(*name.split(".")) for name in names):
            found |= {module for module in (path.with_suffix(".py"), path / "__init__.py") if module.is_file()}
    return found


@pytest.mark.parametrize("file", [f for f in FILES if room(f) != COMMANDS], ids=lambda f: str(f.relative_to(ROOT)))
def test_a_file_imports_only_what_its_room_may(file):
    assert {room(other) for other in imported(file) - {ERROR}} - {room(file)} <= rules()[room(file)]


def test_files_directly_in_tools_are_commands():
    for file in (ROOT / "tools").glob("[a-z]*.py"):
        functions = [node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert "main" in functions, file


@pytest.mark.parametrize("module", ["tools.common.errors", "tools.common.files"])
def test_what_only_names_errors_and_renames_files_starts_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_packaged_network_enhances_a_file_without_the_seconds_that_torch_takes_to_load(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(1000) / 9, 44_100)
    code = (
        "import sys; from tools.enhance import run; "
        f"sys.argv[1:] = [{str(tmp_path / 'a.wav')!r}]; run(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert (tmp_path / "a_enhanced.wav").is_file()


OTHER_PROJECT = """
import models, tools
import numpy as np
from dccrn_losses import Config, build_loss, build_model, enhance
from dccrn_losses.tools.inference.onnx_graphs import export_step

assert enhance(np.ones(800, np.float32), 16000).shape == (800,)
build_loss("SI-SNR+LMS"), build_model(Config(model="GTCRN"))
assert (models.here, tools.here) == (1, 2)
"""


def test_a_project_with_folders_models_and_tools_of_its_own_can_use_this_one(tmp_path):
    for number, name in enumerate(("models", "tools"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"here = {number}\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", OTHER_PROJECT], cwd=tmp_path, env=environment, check=True)
