"""Sums over the items of a pass, kept on the device: reading them would make the CPU wait for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def weighted(loss: Tensor, parts: Mapping[str, Tensor], items: int) -> Tensor:
    """Return what a batch adds to the totals: its items, its loss and each part times its items; float64."""
    means = torch.stack([loss.detach(), *parts.values()]).double()
    return torch.cat([means.new_tensor([items]), means * items])


@dataclass(frozen=True)
class StepResult:
    """Hold what a training step gives, on the device."""

    sums: Tensor  # over the whole batch, as `weighted` returns them
    gradient_norm: Tensor
    left_out: Tensor  # whether the optimiser left the step out, as its loss or gradient was not finite


class Totals:
    """Items and sums so far; the means over all items are exact however they were batched.

    names: of the loss and its parts, in order.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(1 + len(names), dtype=torch.float64, device=device)

    def add(self, sums: Tensor, leave_out: Tensor | bool = False) -> None:
        """Add what `weighted` gave, unless a flag on the device says not to."""
        leave_out = torch.as_tensor(leave_out, device=sums.device)
        self.sums += torch.where(leave_out, torch.zeros_like(sums), sums)

    def means(self) -> dict[str, float]:
        """Return means over all items; waits for the device."""
        count, *sums = self.sums.tolist()
        return {name: total / count if count else math.nan for name, total in zip(self.names, sums, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        return {"names": list(self.names), "sums": self.sums.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if tuple(state["names"]) != self.names:
            raise ValueError(f"sums of {', '.join(state['names'])}, expected {', '.join(self.names)}")
        self.sums.copy_(state["sums"])
