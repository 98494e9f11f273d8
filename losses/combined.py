"""A loss of one or more terms, with fixed weights or balanced ones, averaged over the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tools.common.errors import UserError

from .registry import LossTerm, at_least_float32

MEMORY = 0.8  # weight of earlier steps in a Balancer: norms are averaged over about five steps


class CombinedLoss(nn.Module):
    """Weighted sum of loss terms: (estimate, clean, noisy), [B, samples] each, to the loss and its parts.

    The loss is the mean over the batch; the parts are a dict of each term's own mean, without its weight and
    detached from the graph. `noisy` may be left out if no term needs it.

    weights: fixed ones by the terms' names, or a Balancer, which is updated in training mode with gradients
        enabled and keeps its weights otherwise.
    """

    def __init__(self, terms: Mapping[str, LossTerm], weights: Mapping[str, float] | Balancer) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.balancer = weights if isinstance(weights, Balancer) else None
        self._fixed = None if self.balancer else dict(weights)
        # Terms with weights to train: those with an objective of their own, and all.
        self.own_terms = {name: term for name, term in terms.items() if term.has_own_loss}
        self.trained_terms = {
            name: term for name, term in terms.items() if any(weight.requires_grad for weight in term.parameters())
        }
        for name in self.trained_terms.keys() - self.own_terms.keys() if self.balancer else ():
            raise UserError(
                f"coupling: found balanced, but {name} trains weights with the network; choose fixed ones"
            )
        self.train()  # but for frozen parts of the terms

    @property
    def weights(self) -> dict[str, float] | dict[str, Tensor]:
        """Return each term's present weight; their sum is one. A Balancer's are tensors on the loss's device."""
        return self.balancer.weights if self.balancer else self._fixed

    def own_losses(self, estimate: Tensor, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Return the mean over the batch of each own objective, as `<term>_own`."""
        return {
            f"{name}_own": term.compute_own_loss(estimate, clean, noisy).mean()
            for name, term in self.own_terms.items()
        }

    def total(self, parts: Mapping[str, Any]) -> Any:
        """Return the loss of named parts under the present weights; other names in the dict are ignored."""
        return sum(weight * parts[name] for name, weight in self.weights.items())

    def forward(
        self, estimate: Tensor, clean: Tensor, noisy: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.balancer and self.training and torch.is_grad_enabled():
            return self._balance(estimate, clean, noisy)
        means = {name: term(estimate, clean, noisy).mean() for name, term in self.terms.items()}
        return self.total(means), {name: mean.detach() for name, mean in means.items()}

    def _balance(self, estimate: Tensor, clean: Tensor, noisy: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss as `forward` does, after updating the balancer with this batch.

        The gradient of each term is computed here, and the backward pass uses their weighted sum: balancing
        needs no second pass through the terms.
        """
        leaf = at_least_float32(estimate.detach()).requires_grad_()
        parts, gradients = {}, []
        for name, term in self.terms.items():
            mean = term(leaf, clean, noisy).mean()
            parts[name] = mean.detach()
            gradients.append(torch.autograd.grad(mean, leaf)[0])
        self.balancer.update(torch.stack([torch.linalg.vector_norm(g, dim=1) for g in gradients]))
        gradient = sum(weight * g for weight, g in zip(self.weights.values(), gradients, strict=True))
        with_gradient = (estimate * gradient.to(estimate.dtype)).sum()
        return self.total(parts) + (with_gradient - with_gradient.detach()), parts


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
