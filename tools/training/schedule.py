"""The learning rate of a step, from the settings and what has been: a resumed training needs no other state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from config import Config
from tools.common.run_folder import improvements


def learning_rate(config: Config, step: int, steps_an_epoch: int, failures: int) -> float:
    """Of the step-th step (from 0). failures: how many epochs have failed to improve.

    Sources: plateau: Hu et al., arXiv 2008.00264; cosine with warm-up: Loshchilov & Hutter 2017, without restarts.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "plateau":
        return rate * 0.5**failures
    if config.schedule == "cosine":
        last = config.epochs * steps_an_epoch
        way = max(0, step - config.warmup_steps) / max(1, last - config.warmup_steps)
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, way)))
    return rate


def failures_to_improve(history: Sequence[Mapping[str, Any]]) -> int:
    """How many of the epochs did not lower the validation loss."""
    return len(history) - len(improvements(history, "loss"))
