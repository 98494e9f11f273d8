"""The learning rate of a step, from the settings and what has been: a resumed training needs no other state."""

from __future__ import annotations

import math

from config import Config


def learning_rate(config: Config, step: int, steps_an_epoch: int, halvings: int) -> float:
    """Of the step-th step (from 0). halvings: how many epochs so far brought no lower validation loss.

    Sources: plateau: Hu et al., arXiv 2008.00264; cosine with warm-up: Loshchilov & Hutter 2017, without restarts.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "plateau":
        return rate * 0.5**halvings
    if config.schedule == "cosine":
        last = config.epochs * steps_an_epoch
        way = max(0, step - config.warmup_steps) / max(1, last - config.warmup_steps)
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, way)))
    return rate
