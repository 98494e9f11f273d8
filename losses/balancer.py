"""Loss weights that are adjusted during training to give each term a chosen influence."""

from collections.abc import Mapping

import torch
from torch import Tensor, distributed, nn

MEMORY = 0.8  # weight of earlier steps: norms are averaged over about five steps


class Balancer(nn.Module):
    """Weights that bring the norms of the terms' gradients at the estimate into chosen proportions.

    The influence of a term is its weight times the norm of its gradient at the estimate of an utterance. Its
    value is no measure of influence, since a loss in decibels passes through zero. The logarithms of the norms
    are averaged over the utterances of the batch (of all processes) and exponentially over the last steps, so
    that one utterance with a norm tens of times that of the others hardly changes the weights. Utterances whose
    gradient is zero or not finite are left out. Nothing waits for the device.

    shares: each term's influence; only their ratios matter. The state is kept in buffers, hence in state dicts.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        super().__init__()
        self.names = tuple(shares)
        self.register_buffer("log_shares", torch.tensor([*shares.values()]).log(), persistent=False)
        self.register_buffer("log_norms", torch.zeros(len(shares)))  # the average, times `seen`
        self.register_buffer("seen", torch.zeros(len(shares)))  # sum of the average's coefficients, 0 to 1

    @property
    def weights(self) -> dict[str, Tensor]:
        """Return each term's weight, []; their sum is one. Before the first step, all norms count as equal."""
        log_norms = self.log_norms / self.seen.clamp(min=torch.finfo(self.seen.dtype).tiny)
        return dict(zip(self.names, (self.log_shares - log_norms).softmax(0).unbind(), strict=True))

    @torch.no_grad()
    def update(self, norms: Tensor) -> None:
        """Update the averages with the norms of a step, [terms, B]."""
        logs = norms.to(self.log_norms.dtype).log()
        usable = logs.isfinite()
        sums = torch.stack((logs.where(usable, 0).sum(1), usable.sum(1)))  # of logarithms, and their number
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        new = (1 - MEMORY) * (sums[1] > 0)
        self.log_norms.add_(new * (sums[0] / sums[1].clamp(min=1) - self.log_norms))
        self.seen.add_(new * (1 - self.seen))
