"""Export of a page that enhances in the browser: page, streaming graph, onnxruntime-web."""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from torch import nn

from models.streaming import streaming_step
from tools.common.errors import UserError
from tools.common.files import put_folder
from tools.inference.onnx_graphs import describe_step, export_step

PAGE = Path(__file__).parent / "web"
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def export_web(model: nn.Module, folder: Path, runtime: Path | None = None) -> float:
    """Write the folder; return the graph's largest difference from PyTorch.

    runtime: the npm package's .tgz file; by default npm downloads it. Leaves nothing if it fails.
    Raises UserError if the network cannot stream, npm is missing, the package is another one, or the folder holds
    other files than a page.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "network.onnx").is_file():
        raise UserError(f"{folder}: exists and holds no page of this command; name another folder")
    step = streaming_step(model)
    weights = sum(weight.numel() for weight in model.parameters())
    settings = describe_step(step) | {
        "network": f"{type(model).__name__} with {weights:,} weights",
        "state": {f"state_{name}": list(tensor.shape) for name, tensor in step.initial_state().items()},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.partial") as made:
        place = Path(made) / "web"
        shutil.copytree(PAGE, place)
        unpack_runtime(runtime or download_runtime(Path(made)), place / "ort")
        difference = export_step(model, place / "network.onnx")
        (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        put_folder(place, folder)
    return difference


def download_runtime(folder: Path) -> Path:
    """Return the .tgz of onnxruntime-web, downloaded by npm. Raises UserError if that fails."""
    command = ["npm", "pack", RUNTIME, "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
        raise UserError(
            f"npm: could not download {RUNTIME} ({reason}); install Node.js, or run `npm pack {RUNTIME}` "
            "elsewhere and name the file with --runtime"
        ) from None
    return next(folder.glob("*.tgz"))


def unpack_runtime(archive: Path, folder: Path) -> None:
    """Write the files of the package that the page loads. Raises UserError if it is another package."""
    if not archive.is_file() or hashlib.sha256(archive.read_bytes()).hexdigest() != RUNTIME_SHA256:
        raise UserError(f"{archive}: not the package {RUNTIME}, whose SHA-256 is {RUNTIME_SHA256}")
    folder.mkdir()
    with tarfile.open(archive) as package:
        for name in RUNTIME_FILES:
            with package.extractfile(f"package/dist/{name}") as source:
                (folder / name).write_bytes(source.read())
