"""Weights that give each term of a loss the influence asked for, found while training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, distributed, nn

MEMORY = 0.9  # of a step before; the norms are averaged over some 10 steps


class Balancer(nn.Module):
    """Weights such that the terms' gradients at the estimate have norms in chosen proportions.

    A term's influence is its weight times the norm of the gradient of its batch mean with respect to the estimate:
    what it does to the network in this step. Values tell less, for a loss in decibels passes through zero. The
    logarithms of the norms are averaged over the last steps, later ones more, and over the processes of a
    distributed training. A step in which a term has no gradient, or none that is finite, leaves its average as
    it is. Reads nothing back from the device.

    shares: each term's influence; only their ratios matter. The state is in buffers, so a state dict holds it.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        super().__init__()
        self.names = tuple(shares)
        self.register_buffer("log_shares", torch.tensor([*shares.values()]).log(), persistent=False)
        self.register_buffer("log_norms", torch.zeros(len(shares)))  # the average, times `seen`
        self.register_buffer("seen", torch.zeros(len(shares)))  # sum of the average's coefficients, 0 to 1

    @property
    def weights(self) -> dict[str, Tensor]:
        """Each term's weight, []; their sum is one. Before the first step, as if all norms were alike."""
        log_norms = self.log_norms / self.seen.clamp(min=torch.finfo(self.seen.dtype).tiny)
        return dict(zip(self.names, (self.log_shares - log_norms).softmax(0).unbind(), strict=True))

    @torch.no_grad()
    def update(self, norms: Tensor) -> None:
        """Takes in the norms of this step, [terms]."""
        logs = norms.to(self.log_norms.dtype).log()
        usable = logs.isfinite()
        logs = logs.where(usable, 0)
        if distributed.is_available() and distributed.is_initialized():
            sums = torch.stack((logs, usable.to(logs.dtype)))
            distributed.all_reduce(sums)
            usable = sums[1] > 0
            logs = sums[0] / sums[1].clamp(min=1)
        new = (1 - MEMORY) * usable
        self.log_norms.add_(new * (logs - self.log_norms))
        self.seen.add_(new * (1 - self.seen))
