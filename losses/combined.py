"""A loss of one or more terms, weighted and averaged over the batch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .registry import LossTerm


class CombinedLoss(nn.Module):
    """Weighted sum of loss terms; the weights are divided by their sum.

    (estimate, clean), [B, samples] each, to the mean over the batch and a dict of each term's own mean, without
    its weight and detached from the graph.
    """

    def __init__(self, terms: Mapping[str, LossTerm], weights: Mapping[str, float]) -> None:
        super().__init__()
        total = sum(weights.values())
        self.terms = nn.ModuleDict(terms)
        self.weights = {name: weight / total for name, weight in weights.items()}

    def forward(self, estimate: Tensor, clean: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        means = {name: term(estimate, clean).mean() for name, term in self.terms.items()}
        loss = sum(self.weights[name] * mean for name, mean in means.items())
        return loss, {name: mean.detach() for name, mean in means.items()}
