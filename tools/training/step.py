"""One step of the optimiser."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor, nn

from config import Config
from tools.training.distributed import Processes
from tools.training.guards import NormStatistics
from tools.training.precision import autocast
from tools.training.progress import Learner
from tools.training.totals import weighted


def train_step(
    config: Config,
    learner: Learner,
    network: nn.Module,
    noisy: Tensor,
    clean: Tensor,
    items: int,
    processes: Processes,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the optimiser, left out if loss or gradient is not finite; nothing here waits for the device.

    noisy, clean: [share, samples], this process's share of a batch of so many items.
    Returns the sums over the whole batch (see `weighted`), the gradient's norm, and whether it was left out.
    """
    model, optimizer = learner.model, learner.optimizer
    before = NormStatistics(model) if config.skip_nonfinite else None
    optimizer.zero_grad()
    pieces = min(config.accumulate, items // processes.count)
    sums = 0
    for number, (x, y) in enumerate(zip(noisy.tensor_split(pieces), clean.tensor_split(pieces), strict=True), 1):
        # Processes exchange gradients once, with the last piece.
        alone = processes.count > 1 and number < pieces
        with network.no_sync() if alone else contextlib.nullcontext():
            with autocast(config, processes.device):
                estimate = network(x)
            loss, parts = learner.loss_fn(estimate, y, x)
            # The exchange averages over processes, of which each may hold another number of items.
            (loss * (len(x) * processes.count / items)).backward()
        sums = sums + weighted(loss, parts, len(x))
    processes.sum(sums)
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad or math.inf)
    left_out = ~torch.isfinite(norm + sums.sum())
    optimizer.found_inf = left_out.float()  # fused Adam then leaves weights and moments alone
    optimizer.step()
    if before:
        before.put_back(left_out)
    return sums, norm, left_out
