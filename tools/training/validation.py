"""Validation after an epoch: loss and scores, and the choice of items to show."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from config import Config
from losses import build_loss
from models import enhance_all
from tools.common.errors import UserError
from tools.scoring.scores import ScorePool, Scores, choose_metrics
from tools.training.distributed import Interruption
from tools.training.state import TrainingState, means

FIXED = 0  # the item that is shown after every epoch


def validate(
    config: Config,
    state: TrainingState,
    batches: Iterable[tuple[Any, ...]],
    pool: ScorePool,
    interruption: Interruption,
) -> tuple[dict[str, float], dict[int, float]]:
    """Validate this process's share of the items; return the results of all processes.

    batches: item numbers, noisy, clean, estimate and `batch_sums` of each. The first config.valid_scores items
    are scored in other processes during the pass. Returns means of loss, parts and scores by name; and by item
    number the gain, SI-SDR of the estimate minus that of the noisy speech in dB. An interruption ends the pass
    early. Raises UserError.
    """
    names = ("loss", *state.loss.weights)
    metrics, si_sdr = choose_metrics(config.valid_metrics), build_loss("SI-SDR").terms["SI-SDR"]
    sums, gains = torch.zeros(1 + len(names), dtype=torch.float64, device=state.processes.device), {}

    def pairs_to_score() -> Iterator[tuple[np.ndarray, np.ndarray, Sequence[str]]]:
        for numbers, noisy, clean, estimate, batch_sums in batches:
            sums.add_(batch_sums)
            gain = si_sdr(noisy, clean) - si_sdr(estimate, clean)  # the term is minus the dB
            gains.update(zip(numbers.tolist(), gain.tolist(), strict=True))
            count = sum(number < config.valid_scores for number in numbers.tolist())
            for pair in zip(clean[:count].cpu().numpy(), estimate[:count].cpu().numpy(), strict=True):
                yield *pair, metrics
            if interruption.signal:
                return

    try:
        scores = list(pool.map(pairs_to_score()))
    except UserError:
        if not interruption.signal:  # a SIGTERM to all processes ends those that score
            raise
        scores = []
    state.processes.sum(sums)
    every_gain = {number: gain for own in state.processes.gather(gains) for number, gain in own.items()}
    every_score = [score for own in state.processes.gather(scores) for score in own]
    return means(names, sums) | _mean_scores(every_score, metrics), every_gain


def _mean_scores(results: Sequence[Scores], metrics: Sequence[str]) -> dict[str, float]:
    """Return the mean of each score over the items that have it, rounded to 6 decimals, which are reproducible."""
    found = {}
    for name in metrics if results else ():
        values = [result.values[name] for result in results if name not in result.failed]
        found[name] = round(math.fsum(values) / len(values), 6) if values else math.nan
    return found


def enhance_some(model: nn.Module, dataset: Dataset, gains: dict[int, float]) -> dict[str, dict[str, np.ndarray]]:
    """Return noisy, estimate and clean [samples] of the first item and those with the most, median and least gain.

    model: in evaluation mode.
    """
    ranked = sorted((number for number in gains if math.isfinite(gains[number])), key=gains.__getitem__) or [FIXED]
    middle = ranked[len(ranked) // 2]
    chosen = {"highest_gain": ranked[-1], "median_gain": middle, "lowest_gain": ranked[0], "first_item": FIXED}
    subset = Subset(dataset, list(chosen.values()))
    # Its own generator, as a loader draws a seed from the global one.
    items = enhance_all(model, DataLoader(subset, generator=torch.Generator()))
    return {
        name: {"noisy": noisy, "estimate": estimate, "clean": clean}
        for name, (_, noisy, clean, estimate) in zip(chosen, items, strict=True)
    }
