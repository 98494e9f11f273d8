"""How far a training has come, and the checkpoint from which it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from config import Config
from models import ModelError
from tools.common.errors import UserError
from tools.training.averaging import WeightAverage
from tools.training.distributed import Processes
from tools.training.random_state import random_state, set_random_state
from tools.training.totals import StepResult, Totals


@dataclass(frozen=True)
class Learner:
    """What training changes besides its progress."""

    model: nn.Module
    average: WeightAverage
    loss_fn: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass
class Progress:
    """Where a training stands: in epoch `epoch`, of which `batch` batches are done."""

    totals: Totals  # of those batches
    epoch: int = 1
    batch: int = 0
    step: int = 0  # steps of the optimiser in all epochs
    skipped: int = 0  # of this epoch, for want of a finite loss or gradient
    seconds: float = 0.0  # spent on this epoch
    history: list[dict[str, Any]] = field(default_factory=list)  # a row for each epoch that is done

    @property
    def items_per_second(self) -> float:
        """Return the items a second of the training in this epoch so far."""
        return float(self.totals.sums[0]) / max(self.seconds, 1e-9)

    def count_step(self, result: StepResult) -> None:
        """Count one more batch of the epoch and step of the optimiser; a step that was left out adds no sums."""
        self.totals.add(result.sums, result.left_out)
        self.batch += 1
        self.step += 1

    def start_next_epoch(self, row: dict[str, Any]) -> None:
        """Go to the next epoch; `row` is the history of the one that is done."""
        self.history.append(row)
        self.start_epoch_anew()
        self.epoch += 1

    def start_epoch_anew(self) -> None:
        """Go back to the epoch's first batch."""
        self.totals.sums.zero_()
        self.batch = self.skipped = 0
        self.seconds = 0.0


PLAIN = ("epoch", "batch", "step", "skipped", "seconds")


def checkpoint(config: Config, learner: Learner, progress: Progress, processes: Processes) -> dict[str, Any]:
    """Return the content of last.pt; all processes must call this, as each has random states of its own."""
    content = {
        "config": config.to_dict(),
        "epoch": len(progress.history),
        "model": learner.model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "loss": learner.loss_fn.state_dict(),
        "progress": {name: getattr(progress, name) for name in PLAIN},
        "totals": progress.totals.state_dict(),
        "history": progress.history,
        "random": processes.gather(random_state(processes.device)),
    }
    return content | ({"average": learner.average.model.state_dict()} if config.ema else {})


def restore(
    content: Mapping[str, Any], changed: set[str], learner: Learner, progress: Progress, processes: Processes
) -> None:
    """Put everything in the state of a checkpoint.

    changed: settings that differ from the checkpoint's; where they change which items make up a batch, the epoch
    starts anew. Raises UserError where the checkpoint does not fit them, or is another version's.
    """
    if "progress" not in content:
        raise UserError("last.pt: holds no position in the training, as another version wrote it; start a new run")
    try:
        learner.model.load_state_dict(content["model"])
        if learner.average.model is not learner.model:
            learner.average.model.load_state_dict(content.get("average", content["model"]))
        if not changed & {"loss", "coupling", "balance"}:
            learner.loss_fn.load_state_dict(content["loss"])
        learner.optimizer.load_state_dict(content["optimizer"])
        begins_anew = bool(changed & {"data", "seed", "batch_size", "loss"})
        if not begins_anew:
            progress.totals.load_state_dict(content["totals"])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"last.pt: its weights do not fit the settings: {reason}") from None
    for name in PLAIN:
        setattr(progress, name, content["progress"][name])
    progress.history = [dict(row) for row in content["history"]]
    if begins_anew:
        progress.start_epoch_anew()
    states = content["random"]
    if len(states) == processes.count:
        set_random_state(states[processes.rank], processes.device)
