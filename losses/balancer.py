"""Weights that give each term of a loss the influence asked for, found while training."""

from collections.abc import Mapping

import torch
from torch import Tensor, distributed, nn

MEMORY = 0.8  # of the step before; the norms are averaged over some five steps


class Balancer(nn.Module):
    """Weights such that the terms' gradients at the estimate have norms in chosen proportions.

    A term's influence is its weight times the norm of its gradient at the estimate of an utterance: what it asks
    of the network. Values tell less, for a loss in decibels passes through zero. The logarithms of the norms are
    averaged over the utterances of the batch (of all processes in a distributed training) and over the last
    steps, later ones more: a single utterance, whose norms may be tens of times those of others, does not move
    the weights. Utterances without a gradient, or with none that is finite, are left out. Reads nothing back
    from the device.

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
        """Return each term's weight, []; their sum is one. Before the first step, as if all norms were alike."""
        log_norms = self.log_norms / self.seen.clamp(min=torch.finfo(self.seen.dtype).tiny)
        return dict(zip(self.names, (self.log_shares - log_norms).softmax(0).unbind(), strict=True))

    @torch.no_grad()
    def update(self, norms: Tensor) -> None:
        """Take in the norms of this step, [terms, B]."""
        logs = norms.to(self.log_norms.dtype).log()
        usable = logs.isfinite()
        sums = torch.stack((logs.where(usable, 0).sum(1), usable.sum(1)))  # of logarithms, and their number
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        new = (1 - MEMORY) * (sums[1] > 0)
        self.log_norms.add_(new * (sums[0] / sums[1].clamp(min=1) - self.log_norms))
        self.seen.add_(new * (1 - self.seen))
