"""The folder of a run: whether it holds the requested experiment, its state, and environment.json."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from config import MAY_DIFFER, Config
from dataloader.files import ITEMS
from models import complete, read_checkpoint, read_settings
from tools.common.errors import UserError
from tools.common.files import write_text
from tools.common.run_folder import is_over, read_config, read_history
from tools.common.settings import Resume
from tools.training.distributed import Processes

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("torch", "numpy", "scipy", "pesq", "pystoi", "tensorboardX")


def open_run(config: Config, resume: Resume = "same") -> tuple[Config, dict[str, Any] | None, set[str]]:
    """Return the settings to train with, the content of last.pt or None, and the settings that differ from it.

    resume: if the folder holds a run with other settings, use the "saved" ones, or those of `config`
    ("override"), or refuse ("same"). The saved settings are those of last.pt, if there is one: config.json may
    have been replaced. "data" differs also if the data set has changed. Writes nothing. Raises UserError.
    """
    config = complete(config)
    saved, content, last = None, None, config.run_dir / "last.pt"
    if (config.run_dir / "config.json").exists():
        saved = read_config(config.run_dir)
    if last.exists():
        content = read_checkpoint(last)
        saved = read_settings(content["config"])
    if saved is None:
        return config, None, set()
    if config.precision == "auto":
        config = dataclasses.replace(config, precision=saved.precision)
    changed = differing_settings(saved, config)
    if changed and resume == "same":
        before, now = saved.flat(), config.flat()
        names = [key for key in before if key in {*changed, *saved.network} and before[key] != now.get(key)]
        differences = ", ".join(f"{key} {before[key]} (now {now.get(key)})" for key in names)
        raise UserError(
            f"{config.run_dir}: holds a run with {differences}; choose another --name, resume with its "
            "settings (--resume saved) or with yours (--resume override), or delete the folder"
        )
    if changed and resume == "saved":
        config = dataclasses.replace(config, **{key: getattr(saved, key) for key in changed})
        changed = set()
    if (
        content
        and Path(config.data).is_dir()
        and content.get("data_digest") not in (None, digest_data(config.data))
    ):
        if resume != "override":
            raise UserError(
                f"{config.data}: holds other data than this run was trained on so far; choose another --name, or "
                "--resume override to train on with these"
            )
        changed.add("data")
    return config, content, changed


def differing_settings(saved: Config, wanted: Config) -> set[str]:
    """Return the names of the settings that make it another training.

    Epochs are among them if the schedule depends on them, scored items if scores choose the best epoch.
    """
    free = set(MAY_DIFFER["resumed"])
    if wanted.schedule == "cosine":
        free.remove("epochs")
    if wanted.best_by == "pesq":
        free.remove("valid_scores")
    if wanted.precision == "auto":  # the run keeps what auto became
        free.add("precision")
    before, now = saved.to_dict(), complete(wanted).to_dict()
    return {key for key in now if now[key] != before[key] and key not in free}


def is_trained(config: Config) -> bool:
    """Return whether the run's folder holds this experiment, trained to its last epoch."""
    if not (config.run_dir / "history.csv").is_file():
        return False
    history = read_history(config.run_dir)
    return not differing_settings(read_config(config.run_dir), config) and is_over(config, history)


def digest_data(folder: str) -> str:
    """Return a digest of a data set's description, and of names and sizes of its training and validation files."""
    root = Path(folder)
    digest = hashlib.blake2b(digest_size=16)
    for path in (root / "dataset.json", root / ITEMS):
        digest.update(path.read_bytes() if path.is_file() else b"")
    globs = (root.glob(f"{split}*{end}") for split in ("train", "valid") for end in (".npy", "/*.npy"))
    for path in sorted(itertools.chain.from_iterable(globs)):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def log_environment(run_dir: Path, processes: Processes, step: int) -> None:
    """Add this call, which starts after `step` steps, to the list in environment.json."""
    path = run_dir / "environment.json"
    calls = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    calls = [*calls, describe_environment(processes) | {"from_step": step}]
    write_text(path, json.dumps(calls, indent=2) + "\n")


def describe_environment(processes: Processes) -> dict[str, Any]:
    """Return command, time, machine, versions and commit, as plain values."""
    device, commit = processes.device, find_commit()
    return {
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([sys.executable, *sys.argv]),
        "machine": platform.node(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "processes": processes.world_size,
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": processor(),
        "cores": processes.cores,
        "threads": torch.get_num_threads(),
        "commit": commit.removesuffix("-dirty") or None,
        "changed": commit.endswith("-dirty"),
    }


def processor() -> str:
    """Return the name of the processor, or "" if unknown."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def find_commit() -> str:
    """Return the commit of this code, with "-dirty" if files differ from it; "" outside git."""
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", REPOSITORY, "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
