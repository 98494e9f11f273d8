"""runs/<name>/: what train.py leaves behind and finds again."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from config import Config, ConfigError
from tools.common.errors import UserError
from tools.common.files import fingerprint, replacing, write_csv, write_text
from tools.common.schema import read_csv, read_json
from tools.common.tensors import digest_tensors


def find_run(name: str) -> Path:
    """Return the folder of a run, given it or its name in runs/; it need not exist."""
    return Path(name) if (Path(name) / "config.json").is_file() else Path("runs") / name


def test_folder(run_dir: Path, data: str) -> Path:
    """Return where test.py puts what it finds of a run on a data set: runs/<name>/test/<the set's folder name>."""
    return run_dir / "test" / data_name(data)


def data_name(data: str) -> str:
    """Return what a data set is called: the name of its folder."""
    name = Path(data).name
    return name if name not in ("", "..") else Path(data).resolve().name or "data"


def scores_file(run_dir: Path, data: str = "") -> Path:
    """Return the scores.csv of a run on a data set, by the name of either's folder; it need not exist.

    Without a name: of the set that the run was tested on, or of several the one that it was trained on. Raises
    UserError if that leaves more than one.
    """
    old = run_dir / "test" / "scores.csv"  # as earlier versions
    sets = sorted(path.parent.name for path in (run_dir / "test").glob("*/scores.csv"))
    name = data_name(data or read_config(run_dir).data)
    if name in sets or not (sets or old.exists()):
        return run_dir / "test" / name / "scores.csv"
    if old.exists():
        return old
    if data or len(sets) > 1:
        raise UserError(
            f"{run_dir}: was tested on {', '.join(sets)}, not on {name}; choose one of these with --data"
        )
    return run_dir / "test" / sets[0] / "scores.csv"


def find_checkpoint(name: str) -> Path | None:
    """Return the checkpoint that is meant, given its file, or a run's folder or name, which mean its best.pt.

    None if it is neither. Raises UserError for a run without best.pt.
    """
    for folder in (Path(name), Path("runs") / name):
        if (folder / "config.json").is_file() or (folder / "best.pt").is_file():
            if not (folder / "best.pt").is_file():
                raise UserError(f"{folder}: no best.pt in it yet, which train.py writes after the first epoch")
            return folder / "best.pt"
    return Path(name) if Path(name).suffix in (".pt", ".pth") else None


def save_config(config: Config) -> None:
    """Write config.json to the run's folder, which is made if need be."""
    write_text(config.run_dir / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")


def read_config(run_dir: Path) -> Config:
    """Return the config of a run as it was saved. Raises UserError if there is no such run or it is damaged."""
    path = run_dir / "config.json"
    if not path.is_file():
        runs = sorted(found.parent.name for found in run_dir.parent.glob("*/config.json"))
        there = f"there {'is' if len(runs) == 1 else 'are'} {', '.join(runs)}" if runs else "there is none yet"
        raise UserError(f"{path}: no such run; train it first, or name another with --name: {there}")
    settings = read_json(path, dict[str, Any], "delete it if last.pt is there, which holds the same settings")
    try:
        return Config.from_dict(settings)
    except (ConfigError, TypeError) as error:
        raise UserError(f"{path}: not the settings of a run ({error})") from None


def note_test(folder: Path, checkpoint: Path) -> None:
    """Write down of which checkpoint the scores in a folder are."""
    write_text(folder / "tested.json", _tested(checkpoint))


def is_tested(run_dir: Path, scores: Path) -> bool:
    """Tell whether a scores.csv is there, and of best.pt as it is now; a published run has no best.pt."""
    best, noted = run_dir / "best.pt", scores.with_name("tested.json")
    if not scores.is_file() or not best.is_file():
        return scores.is_file()
    if not noted.is_file():  # as earlier versions left it
        return scores.stat().st_mtime_ns >= best.stat().st_mtime_ns
    return noted.read_text(encoding="utf-8", errors="replace") == _tested(best)


def _tested(checkpoint: Path) -> str:
    return json.dumps({"checkpoint": fingerprint(checkpoint)}) + "\n"


def improvements(history: Sequence[Mapping[str, Any]], best_by: str) -> list[int]:
    """Return numbers of the epochs that were the best so far when they ended, by validation "loss" or "pesq".

    An epoch's loss is compared with those before under the weights that the loss's terms had at its end: where
    training finds the weights, they move from epoch to epoch, and losses under different ones do not compare.
    """
    better = []
    for end in range(1, len(history) + 1):
        *past, now = (_cost(row, history[end - 1], best_by) for row in history[:end])
        if end == 1 or now < min(past):
            better.append(end)
    return better


def is_over(config: Config, history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all epochs are done, or too many have brought no new best."""
    waited = len(history) - max(improvements(history, config.best_by), default=0)
    return len(history) >= config.epochs or 0 < config.patience <= waited


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, with a digest of the tensors that readers check, as `save_tensors` does."""
    save_tensors(path, content | {"digest": digest_tensors(content)})


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a file for torch.load that is whole or not there. Raises UserError if it fails."""
    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
            _flush_to_disk(temporary)
        except (RuntimeError, OSError) as error:  # torch's writer hides the system's reason
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(
                f"{path}: could not be written ({reason}); is the disk full? What was there before is intact, and "
                "the same command resumes from it"
            ) from None


def save_history(run_dir: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write history.csv: one row an epoch; a column that an epoch does not have is left empty."""
    columns = dict.fromkeys(key for row in history for key in row)
    write_csv(run_dir / "history.csv", [{key: row.get(key, math.nan) for key in columns} for row in history])


def read_history(run_dir: Path) -> list[dict[str, float]]:
    """Return the rows of history.csv, NaN where one is empty."""
    return read_csv(run_dir / "history.csv", dict[str, int | float], "resume the run to write it again")


def _flush_to_disk(path: Path) -> None:
    """Write a file to the disk itself: a loss of power then leaves no new name on half a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _cost(row: Mapping[str, Any], judge: Mapping[str, Any], best_by: str) -> float:
    """Return an epoch's cost, lower is better: minus its PESQ, or its loss under the weights of `judge`."""
    if best_by == "pesq":
        cost = -row.get("valid_pesq", math.nan)
    else:
        prefix = "weight_"
        weights = {key.removeprefix(prefix): judge[key] for key in judge if key.startswith(prefix)}
        # An epoch that was trained with another loss may lack a term, and has then nothing to be compared by.
        cost = sum(
            weight * row.get(f"valid_{name}", math.nan)
            for name, weight in weights.items()
            if not math.isnan(weight)
        )
    return math.inf if math.isnan(cost) else cost
