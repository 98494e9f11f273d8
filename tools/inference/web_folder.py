"""Export of a page that enhances in the browser: page, streaming graph, resamplers, onnxruntime-web."""

import hashlib
import json
import math
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from config import SAMPLE_RATE
from models.streaming import streaming_step
from tools.common.errors import UserError
from tools.common.files import put_folder
from tools.inference import limiter
from tools.inference.high_band import FRAME, HIGH_PASS, MEMORY
from tools.inference.onnx_graphs import export_step
from tools.inference.resampling import measure_taps

PAGE = Path(__file__).parent / "web"
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
RATES = (8000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)  # in addition to 16 kHz


def export_web(model: nn.Module, folder: Path, runtime: Path | None = None) -> float:
    """Write the folder; return the graph's largest difference from PyTorch.

    runtime: the npm package's .tgz file; by default npm downloads it. Leaves nothing if it fails.
    Raises UserError if the network cannot stream, npm is missing, the package is another one, or the folder holds
    other files than a page.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "network.onnx").is_file():
        raise UserError(f"{folder}: exists and holds no page of this command; name another folder")
    step = streaming_step(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.partial") as made:
        place = Path(made) / "web"
        shutil.copytree(PAGE, place)
        unpack_runtime(runtime or download_runtime(Path(made)), place / "ort")
        difference = export_step(model, place / "network.onnx")
        tables, index = [], {}
        for rate in RATES:
            index[rate] = {}
            for kind, rates in (("down", (rate, SAMPLE_RATE)), ("up", (SAMPLE_RATE, rate))):
                taps = measure_taps(*rates)
                up, down = (n // math.gcd(*rates) for n in reversed(rates))
                offset = sum(table.size for table in tables)
                index[rate][kind] = {"up": up, "down": down, "half": taps.shape[1] // 2, "offset": offset}
                tables.append(taps)
        np.concatenate([table.ravel() for table in tables]).tofile(place / "resamplers.bin")
        settings = describe(model, step) | {"rates": [SAMPLE_RATE, *RATES], "resamplers": index}
        (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        put_folder(place, folder)
    return difference


def describe(model: nn.Module, step: Any) -> dict[str, Any]:
    """Return the page's settings: the network, its state, and the signal chain around it."""
    weights = sum(weight.numel() for weight in model.parameters())
    return {
        "network": f"{type(model).__name__} with {weights:,} weights",
        "hop": step.hop,
        "edge": step.delay - step.look_ahead,
        "look_ahead": step.look_ahead,
        "mirrored": step.kept > 0,
        "state": [{"name": f"state_{name}", "shape": list(x.shape)} for name, x in step.first_state().items()],
        "frame": FRAME,
        "memory": MEMORY,
        "high_pass": HIGH_PASS.tolist(),
        "limiter": {"frame": limiter.FRAME, "hop": limiter.HOP},
    }


def download_runtime(folder: Path) -> Path:
    """Return the .tgz of onnxruntime-web, downloaded by npm. Raises UserError if that fails."""
    how = f"run `npm pack {RUNTIME}` on another machine, and name the file with --runtime"
    try:
        command = ["npm", "pack", RUNTIME, "--silent", "--pack-destination", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise UserError(f"npm: not found, which downloads {RUNTIME}; install Node.js, or {how}") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"npm: could not download {RUNTIME} ({reason}); {how}") from None
    return folder / done.stdout.strip().splitlines()[-1]


def unpack_runtime(archive: Path, folder: Path) -> None:
    """Write the files of the package that the page loads. Raises UserError if it is another package."""
    if not archive.is_file() or hashlib.sha256(archive.read_bytes()).hexdigest() != RUNTIME_SHA256:
        raise UserError(f"{archive}: not the package {RUNTIME}, whose SHA-256 is {RUNTIME_SHA256}")
    folder.mkdir()
    with tarfile.open(archive) as package:
        for name in RUNTIME_FILES:
            with package.extractfile(f"package/dist/{name}") as source:
                (folder / name).write_bytes(source.read())
