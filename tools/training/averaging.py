"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """average = decay * average + (1 - decay) * weights after every step, statistics of batch norms included.

    `model` is the network with the averages in it, or the trained network itself where the decay is 0.
    Early on the decay is (1 + steps) / (10 + steps) where that is lower, so that the first weights are soon
    forgotten (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False) if decay else model
        self._pairs = list(zip(_numbers(self.model), _numbers(model), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages after the step-th step, counted from 1."""
        if self.decay:
            averages, weights = zip(*self._pairs, strict=True)
            weight = 1 - min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(averages), [w.detach() for w in weights], weight)


def _numbers(model: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()]
