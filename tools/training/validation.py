"""Validation after an epoch: loss and scores, and the choice of items to show."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from config import Config
from losses import build_loss
from tools.common.processes import killed_worker
from tools.scoring.scores import ScorePool, Scores, choose_scores
from tools.training.distributed import Processes
from tools.training.interruption import Interruption
from tools.training.precision import autocast
from tools.training.progress import Learner, Totals, weighted

FIXED = 0  # the item that is shown after every epoch
AHEAD = 8  # items a process that may wait for their scores


@dataclass(frozen=True)
class Validated:
    """Means of loss and parts over all validation items, of scores over the scored items, and gains.

    gains: SI-SDR of the estimate minus that of the noisy speech in dB, by item number.
    """

    means: dict[str, float]
    scores: dict[str, float]
    gains: dict[int, float]


@torch.no_grad()
def validate(
    config: Config,
    learner: Learner,
    loader: DataLoader,
    pool: ScorePool,
    processes: Processes,
    tick: Callable[[], None],
    interruption: Interruption,
) -> Validated | None:
    """Validate this process's share of the items; return the results of all processes.

    The first config.valid_scores items are scored in other processes during the pass.
    tick: called after every batch. Returns None if any process is interrupted. Raises UserError.
    """
    model, loss_fn = learner.average.model.eval(), learner.loss_fn.eval()
    names = ("loss", *loss_fn.weights)
    totals, si_sdr = Totals(names, processes.device), build_loss("SI-SDR").terms["SI-SDR"]
    metrics = choose_scores(config.valid_metrics)
    futures, gains, numbers = [], [], []
    stopped, scored = False, []
    try:
        for noisy, clean, items in loader:
            noisy = noisy.to(processes.device, non_blocking=True)  # [B, samples]
            clean = clean.to(processes.device, non_blocking=True)
            with autocast(config, processes.device):
                estimate = model(noisy).float()  # a network may return what autocast made of it
            totals.add(weighted(*loss_fn(estimate, clean, noisy), len(noisy)))
            gains.append(si_sdr(noisy, clean) - si_sdr(estimate, clean))  # the term is minus the dB
            numbers += items.tolist()
            count = sum(number < config.valid_scores for number in items.tolist())
            for pair in zip(clean[:count].cpu().numpy(), estimate[:count].cpu().numpy(), strict=True):
                _wait_for_room(pool, futures)
                futures.append(pool.score(*pair, metrics))
            tick()
            if stopped := interruption.is_asked_for:
                break
        else:
            scored = [future.result() for future in futures]
    except BrokenProcessPool:  # a SIGTERM to all processes ends those that score
        if not interruption.is_asked_for:
            raise killed_worker(pool.processes) from None
        stopped = True
    if any(processes.any(stopped)):
        return None
    processes.sum(totals.sums)
    own = dict(zip(numbers, torch.cat(gains).tolist() if gains else [], strict=True))
    every = {number: gain for share in processes.gather(own) for number, gain in share.items()}
    every_score = [scores for share in processes.gather(scored) for scores in share]
    return Validated(totals.means(), _mean_scores(every_score, metrics), every)


def choose_items(gains: dict[int, float]) -> dict[str, int]:
    """Return the numbers of the items to show: those with the highest, median and lowest gain, and a fixed one."""
    ranked = sorted((number for number in gains if math.isfinite(gains[number])), key=gains.__getitem__)
    ranked = ranked or [FIXED]
    middle = ranked[len(ranked) // 2]
    return {"highest_gain": ranked[-1], "median_gain": middle, "lowest_gain": ranked[0], "first_item": FIXED}


@torch.no_grad()
def enhance_items(model: nn.Module, loader: DataLoader, numbers: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Return noisy, estimated and clean waveforms [samples] of validation items of any process."""
    model.eval()
    device = next(model.parameters()).device
    results = []
    for number in numbers:
        noisy, clean, _ = loader.dataset.dataset[number]
        estimate = model(noisy[None].to(device))[0].cpu()
        results.append({"noisy": noisy.numpy(), "estimate": estimate.numpy(), "clean": clean.numpy()})
    return results


def _wait_for_room(pool: ScorePool, futures: Sequence[Future[Scores]]) -> None:
    """Wait until only a limited number of items wait for their scores."""
    waiting = [future for future in futures if not future.done()]
    if len(waiting) > AHEAD * pool.processes:
        wait(waiting, return_when=FIRST_COMPLETED)


def _mean_scores(results: Sequence[Scores], metrics: Sequence[str]) -> dict[str, float]:
    """Return the mean of each score over the items that have it, rounded to 6 decimals, which are reproducible."""
    means = {}
    for name in metrics if results else ():
        values = [result.values[name] for result in results if name not in result.failed]
        means[name] = round(math.fsum(values) / len(values), 6) if values else math.nan
    return means
