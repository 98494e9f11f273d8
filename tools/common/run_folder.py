"""runs/<name>/: the files that train.py and test.py write and read."""

import contextlib
import datetime
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from config import Config
from tools.common.errors import UserError
from tools.common.files import fingerprint, replacing, write_csv, write_text


def find_run(name: str) -> Path:
    """Return the folder of a run, given the folder or its name in runs/; it need not exist."""
    is_run = any((Path(name) / file).is_file() for file in ("config.json", "best.pt"))
    return Path(name) if is_run else Path("runs") / name


def find_checkpoint(name: str) -> Path | None:
    """Return the checkpoint of a name: a .pt, .pth or .onnx file, best.pt of a run folder or name, or pretrained.

    None for other names. Raises UserError for a run without best.pt.
    """
    if name == "pretrained":
        from models import PRETRAINED  # and torch, which takes two seconds to load

        return PRETRAINED
    folder = find_run(name)
    if (folder / "best.pt").is_file():
        return folder / "best.pt"
    if (folder / "config.json").is_file():
        raise UserError(f"{folder}: no best.pt in it yet, which train.py writes after the first epoch")
    return Path(name) if Path(name).suffix in (".pt", ".pth", ".onnx") else None


def checkpoint_path(name: str) -> Path:
    """Return what `find_checkpoint` finds, or else the name as that of any file."""
    return find_checkpoint(name) or Path(name)


def test_folder(run_dir: Path, data: str) -> Path:
    """Return the folder for the test of a run on a data set: runs/<name>/test/<name of the set's folder>."""
    return run_dir / "test" / (Path(os.path.abspath(data)).name or "data")


def scores_file(run_dir: Path, data: str = "") -> Path:
    """Return the path of the scores.csv of a run on a data set.

    data: folder of the set, or its name. By default the set that the run was tested on or, of several, the one
    that it was trained on. Raises UserError if its present best.pt was not tested on that set.
    """
    sets = [path.parent.name for path in (run_dir / "test").glob("*/scores.csv")]
    folder = test_folder(run_dir, sets[0] if len(sets) == 1 and not data else data or read_config(run_dir).data)
    if not is_tested(run_dir, folder.name):
        tested = ", ".join(sorted(sets)) or "no set"
        raise UserError(
            f"{run_dir}: its best.pt was not tested on {folder.name} (scores: {tested}); run test.py, "
            "or choose a set with --data"
        )
    return folder / "scores.csv"


def note_test(folder: Path, origin: Mapping[str, str]) -> None:
    """Write tested.json: digests of the checkpoint, or of the outputs, that the scores in a folder belong to."""
    write_text(folder / "tested.json", json.dumps(origin) + "\n")


def is_tested(run_dir: Path, data: str) -> bool:
    """Return whether the run's present best.pt, if it has one, was tested on a data set."""
    noted, best = test_folder(run_dir, data) / "tested.json", run_dir / "best.pt"
    if not noted.is_file() or not best.is_file():
        return noted.is_file()
    return json.loads(noted.read_text()) == {"checkpoint": fingerprint(best)}


def save_config(config: Config) -> None:
    """Write config.json to the run's folder, which is created if missing."""
    write_text(config.run_dir / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")


def read_config(run_dir: Path) -> Config:
    """Return the complete config of a run. Raises UserError if there is no such run or the file is damaged."""
    path = run_dir / "config.json"
    if not path.is_file():
        runs = sorted(found.parent.name for found in run_dir.parent.glob("*/config.json"))
        there = f"there {'is' if len(runs) == 1 else 'are'} {', '.join(runs)}" if runs else "there is none yet"
        raise UserError(f"{path}: no such run; train it first, or name another with --name: {there}")
    from models import read_settings

    try:
        return read_settings(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
    except (UserError, ValueError) as error:
        advice = "delete it if last.pt is there, which holds the same"
        raise UserError(f"{path}: not the settings of a run ({error}); {advice}") from None


def best_epochs(history: Sequence[Mapping[str, Any]], best_by: str) -> list[int]:
    """Return the numbers of the epochs that were the best so far when they ended, by validation "loss" or "pesq".

    The losses of earlier epochs are computed with the weights of the terms at the end of the compared epoch:
    with balanced coupling, weights change, and losses under different weights are not comparable.
    """
    better = []
    for end in range(1, len(history) + 1):
        *past, now = (_cost(row, history[end - 1], best_by) for row in history[:end])
        if end == 1 or now < min(past):
            better.append(end)
    return better


def is_over(config: Config, history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all epochs are done, or config.patience epochs have brought no new best."""
    waited = len(history) - max(best_epochs(history, config.best_by), default=0)
    return len(history) >= config.epochs or 0 < config.patience <= waited


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values for torch.load atomically."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)  # into a file, it reports a full disk as a wrong position
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())  # after a power loss, it might be half a file under its new name


def save_history(run_dir: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write history.csv: one row an epoch; missing columns are left empty."""
    columns = dict.fromkeys(key for row in history for key in row)
    write_csv(run_dir / "history.csv", [{key: row.get(key, math.nan) for key in columns} for row in history])


def read_history(run_dir: Path) -> list[dict[str, float]]:
    """Return the rows of history.csv, with NaN for empty fields."""
    import pandas as pd  # takes half a second, which tools.enhance need not wait

    return pd.read_csv(run_dir / "history.csv").to_dict("records")


def _cost(row: Mapping[str, Any], weights: Mapping[str, Any], best_by: str) -> float:
    """Return an epoch's cost, lower is better: minus its PESQ, or its loss under an epoch's weights."""
    if best_by == "pesq":
        cost = -row.get("valid_pesq", math.nan)
    else:
        terms = [key for key in weights if key.startswith("weight_") and not math.isnan(weights[key])]
        # An epoch trained with another loss may lack a term; then it cannot be compared.
        cost = sum(weights[key] * row.get(key.replace("weight", "valid", 1), math.nan) for key in terms)
    return math.inf if math.isnan(cost) else cost


class _Both:
    """A stream whose text is also written to a file."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream, self._file = stream, file

    def write(self, text: str) -> int:
        self._file.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._file.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def log_console(path: Path) -> Iterator[None]:
    """Append what is printed within to a file, after time and command, and the error that ends it, if any.

    Progress bars go to stderr and are not logged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="replace") as file:
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        file.write(f"\n# {now} {shlex.join(sys.argv)}\n")
        try:
            with contextlib.redirect_stdout(_Both(sys.stdout, file)):
                yield
        except Exception as error:
            file.write(f"error: {error}\n")
            raise
