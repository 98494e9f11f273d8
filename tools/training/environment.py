"""environment.json: command, machine, versions and commit of every call of a run."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tools.common.errors import UserError
from tools.common.files import write_text
from tools.common.schema import read_json
from tools.training.distributed import Processes

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("torch", "numpy", "scipy", "pesq", "pystoi", "tensorboardX")


def log_environment(run_dir: Path, processes: Processes, step: int) -> None:
    """Add this call, which starts after `step` steps, to the list in environment.json."""
    path = run_dir / "environment.json"
    try:
        calls = read_json(path, list[dict[str, Any]], "")
    except (OSError, UserError):
        calls = []
    calls = [*calls, describe_environment(processes) | {"from_step": step}]
    write_text(path, json.dumps(calls, indent=2) + "\n")


def describe_environment(processes: Processes) -> dict[str, Any]:
    """Return command, time, machine, versions and commit, as plain values."""
    device = processes.device
    return {
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([sys.executable, *sys.argv]),
        "machine": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "processes": processes.world_size,
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "cpu": processor(),
        "cores": processes.cores,
        "threads": torch.get_num_threads(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        **_commit(),
    }


def processor() -> str:
    """Return the name of the processor, or "" if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> dict[str, Any]:
    """Return the commit of this code and whether files differ from it; both None outside git."""
    try:
        commit, changes = (
            subprocess.run(["git", "-C", REPOSITORY, *args], capture_output=True, text=True, check=True).stdout
            for args in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}
    return {"commit": commit.strip(), "changed": bool(changes)}
