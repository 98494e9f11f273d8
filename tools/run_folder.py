"""runs/<name>/: what train.py leaves behind and finds again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch

from config import Config, ConfigError
from models import read_checkpoint
from tools.cli import UserError
from tools.files import replacing
from tools.tables import write_csv

# Settings that do not change what a run computes, or only how long it goes on.
FREE_TO_CHANGE = {"name", "epochs", "device", "workers", "valid_scores", "samples", "show"}


def open_run(config: Config) -> dict[str, Any] | None:
    """Makes the run's folder, or finds it again: the content of its last.pt, or None where there is none.

    Raises UserError if the folder belongs to a run with other settings.
    """
    path = config.run_dir / "config.json"
    if path.exists():
        saved = read_config(config.run_dir).to_dict()
        wanted = config.to_dict()
        other = [key for key in wanted if wanted[key] != saved[key] and key not in FREE_TO_CHANGE]
        if other:
            differences = ", ".join(f"{key} {saved[key]} (now {wanted[key]})" for key in other)
            raise UserError(
                f"{config.run_dir}: holds a run with {differences}; choose another --name, or delete the folder"
            )
    last = config.run_dir / "last.pt"
    state = read_checkpoint(last) if last.exists() else None
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    return state


def read_config(run_dir: Path) -> Config:
    """The config of a run; UserError if there is no such run or its config.json is damaged."""
    path = run_dir / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: no such run; train it first, or name another with --name")
    try:
        return Config.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ConfigError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a run's config ({error})") from None


def is_trained(config: Config) -> bool:
    """Whether the run's folder holds this very experiment, trained to its last epoch."""
    path = config.run_dir / "history.csv"
    if not path.is_file():
        return False
    saved, wanted = read_config(config.run_dir).to_dict(), config.to_dict()
    same = all(wanted[key] == saved[key] for key in wanted if key not in FREE_TO_CHANGE)
    with path.open(newline="", encoding="utf-8") as file:
        return same and sum(1 for _ in csv.DictReader(file)) >= config.epochs


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Tensors and plain values to a checkpoint file that is whole or not there."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def save_history(run_dir: Path, history: list[dict[str, Any]]) -> None:
    """history.csv: one row an epoch."""
    write_csv(run_dir / "history.csv", history)
