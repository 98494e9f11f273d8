"""Resuming: whether a run's folder holds the requested experiment, and its state."""

import dataclasses
from typing import Any

from config import MAY_DIFFER, Config
from models import complete, read_checkpoint
from tools.common.errors import UserError
from tools.common.run_folder import is_over, read_config, read_history
from tools.training.settings import Resume


def open_run(config: Config, resume: Resume = "same") -> tuple[Config, dict[str, Any] | None, set[str]]:
    """Return the settings to train with, the content of last.pt or None, and the settings that differ from it.

    resume: if the folder holds a run with other settings, use the "saved" ones, or those of `config`
    ("override"), or refuse ("same"). The saved settings are those of last.pt, if there is one: config.json may
    have been replaced. Writes nothing. Raises UserError.
    """
    saved, content, last = None, None, config.run_dir / "last.pt"
    if (config.run_dir / "config.json").exists():
        saved = complete(read_config(config.run_dir))
    if last.exists():
        content = read_checkpoint(last)
        saved = complete(Config.from_dict(content["config"]))
    if saved is None:
        return config, None, set()
    if config.precision == "auto":
        config = dataclasses.replace(config, precision=saved.precision)
    changed = differing_settings(saved, config)
    if changed and resume == "same":
        before, now = saved.to_dict(), config.to_dict()
        differences = ", ".join(f"{key} {before[key]} (now {now[key]})" for key in before if key in changed)
        raise UserError(
            f"{config.run_dir}: holds a run with {differences}; choose another --name, resume with its "
            "settings (--resume saved) or with yours (--resume override), or delete the folder"
        )
    if changed and resume == "saved":
        config = dataclasses.replace(config, **{key: getattr(saved, key) for key in changed})
        changed = set()
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
    before, now = complete(saved).to_dict(), complete(wanted).to_dict()
    return {key for key in now if now[key] != before[key] and key not in free}


def is_trained(config: Config) -> bool:
    """Return whether the run's folder holds this experiment, trained to its last epoch."""
    if not (config.run_dir / "history.csv").is_file():
        return False
    history = read_history(config.run_dir)
    return not differing_settings(read_config(config.run_dir), config) and is_over(config, history)
