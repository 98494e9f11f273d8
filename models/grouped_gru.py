"""Several small GRUs side by side, computed as one: a recurrence on a CPU costs by the step, not by the size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupedGRU(nn.Module):
    """GRUs of `groups` equal parts of the features, each forward or, with `both_ways`, in both directions.

    [N, steps, features] to [N, steps, features]; a part's output is its forward, then its backward half.
    The parts' weights become the diagonal blocks of one GRU, whose steps run for all parts and directions at once.
    Parameters are stacked by direction, then by group: weight_ih is [blocks, 3 units, inputs].
    """

    def __init__(self, features: int, groups: int, both_ways: bool = False) -> None:
        super().__init__()
        self.groups, self.directions = groups, 2 if both_ways else 1
        self.inputs = features // groups
        self.units = self.inputs // self.directions
        blocks, rows = groups * self.directions, 3 * self.units
        self.weight_ih = nn.Parameter(torch.empty(blocks, rows, self.inputs))
        self.weight_hh = nn.Parameter(torch.empty(blocks, rows, self.units))
        self.bias_ih = nn.Parameter(torch.empty(blocks, rows))
        self.bias_hh = nn.Parameter(torch.empty(blocks, rows))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.units**-0.5), self.units**-0.5)  # as torch starts a GRU

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.step(x, x.new_zeros(1, x.shape[0], self.units * self.groups * self.directions))
        return y

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of some steps and the state after them, [1, N, blocks * units], given that before."""
        if self.directions == 2:
            x = torch.cat([x, x.flip(1)], 2)
        y, hidden = torch.gru(x, hidden, self._joined(), True, 1, 0.0, self.training, False, True)
        if self.directions == 2:
            forward, backward = y.unflatten(2, (2, self.groups, self.units)).unbind(2)  # [N, steps, groups, units]
            y = torch.cat([forward, backward.flip(1)], 3).flatten(2)
        return y, hidden

    def _joined(self) -> list[Tensor]:
        """Return weights and biases of the one GRU; its rows are ordered by gate, then by block."""
        blocks = self.groups * self.directions
        eye = torch.eye(blocks, device=self.weight_ih.device, dtype=self.weight_ih.dtype)

        def join(weight: Tensor) -> Tensor:
            by_gate = weight.unflatten(1, (3, self.units))  # [blocks, 3, units, inputs]
            return torch.einsum("kghi,kl->gkhli", by_gate, eye).flatten(3).flatten(0, 2)

        def stack(bias: Tensor) -> Tensor:
            return bias.unflatten(1, (3, self.units)).transpose(0, 1).flatten()

        return [join(self.weight_ih), join(self.weight_hh), stack(self.bias_ih), stack(self.bias_hh)]
