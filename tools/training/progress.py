"""The state of a training: network, loss, optimiser, sums over an epoch's items, and position."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average: decay * average + (1 - decay) * weights after every step, with batch norm statistics.

    `model` is the network with the averages, or the trained network itself if the decay is 0.
    At the start the decay is (1 + steps) / (10 + steps) if that is lower, so that the initial weights soon lose
    influence (as in TensorFlow's ExponentialMovingAverage).
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


@dataclass(frozen=True)
class Learner:
    """The objects that training changes."""

    model: nn.Module
    average: WeightAverage
    loss_fn: nn.Module
    optimizer: torch.optim.Optimizer


def weighted(loss: Tensor, parts: Mapping[str, Tensor], items: int) -> Tensor:
    """Return a batch's contribution to the totals, float64: items, and loss and each part times items."""
    means = torch.stack([loss.detach(), *parts.values()]).double()
    count = means.new_full((1,), items)  # new_tensor would copy from the CPU, and wait
    return torch.cat([count, means * items])


@dataclass(frozen=True)
class StepResult:
    """The result of a training step, on the device."""

    sums: Tensor  # over the whole batch, as `weighted` returns them
    gradient_norm: Tensor
    left_out: Tensor  # whether the optimiser left the step out because loss or gradient was not finite


class Totals:
    """Numbers of items and sums so far; means over all items do not depend on the batches.

    names: of the loss and its parts, in order.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(1 + len(names), dtype=torch.float64, device=device)

    def add(self, sums: Tensor, leave_out: Tensor | bool = False) -> None:
        """Add a result of `weighted`, unless the flag on the device is set."""
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


@dataclass
class Progress:
    """The position of a training: in epoch `epoch`, of which `batch` batches are done."""

    totals: Totals  # of those batches
    epoch: int = 1
    batch: int = 0
    step: int = 0  # steps of the optimiser in all epochs
    skipped: int = 0  # steps of this epoch whose loss or gradient was not finite
    seconds: float = 0.0  # spent on this epoch
    history: list[dict[str, Any]] = field(default_factory=list)  # a row for each epoch that is done

    @property
    def items_per_second(self) -> float:
        """Return the training items a second of this epoch so far."""
        return float(self.totals.sums[0]) / max(self.seconds, 1e-9)

    def count_step(self, result: StepResult) -> None:
        """Count one more batch of the epoch and step of the optimiser; a step that was left out adds no sums."""
        self.totals.add(result.sums, result.left_out)
        self.batch += 1
        self.step += 1

    def start_next_epoch(self, row: dict[str, Any]) -> None:
        """Go to the next epoch; row: history of the finished one."""
        self.history.append(row)
        self.restart_epoch()
        self.epoch += 1

    def restart_epoch(self) -> None:
        """Go back to the epoch's first batch."""
        self.totals.sums.zero_()
        self.batch = self.skipped = 0
        self.seconds = 0.0
