"""How far a training has come, and the checkpoint from which it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import torch
from torch import nn

from config import Config
from models import ModelError
from tools.common.errors import UserError
from tools.common.schema import check
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
        self.restart_epoch()
        self.epoch += 1

    def restart_epoch(self) -> None:
        """Go back to the epoch's first batch."""
        self.totals.sums.zero_()
        self.batch = self.skipped = 0
        self.seconds = 0.0


PLAIN = ("epoch", "batch", "step", "skipped", "seconds")
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**50)]


class _Position(msgspec.Struct):
    epoch: Annotated[int, msgspec.Meta(ge=1, lt=2**50)]
    batch: Count
    step: Count
    skipped: Count
    seconds: Annotated[float, msgspec.Meta(ge=0)]


class _Saved(msgspec.Struct):
    """What a checkpoint says of the training besides tensors."""

    progress: _Position
    history: list[dict[str, int | float]]
    random: list[Any]


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
    content: Mapping[str, Any],
    changed: set[str],
    learner: Learner,
    progress: Progress,
    processes: Processes,
    steps: int,
) -> None:
    """Put everything in the state of a checkpoint.

    changed: settings that differ from the checkpoint's; where they change which items make up a batch, the epoch
    starts again. steps: of an epoch. Raises UserError where the checkpoint does not fit, or is another version's.
    """
    saved = check(content, _Saved, "last.pt", "start a new run")
    restarts = bool(changed & {"data", "seed", "batch_size", "loss"})
    if [row.get("epoch") for row in saved.history] != list(range(1, saved.progress.epoch)):
        raise UserError(f"last.pt: in epoch {saved.progress.epoch} with another history; start a new run")
    if not restarts and saved.progress.batch > steps:
        raise UserError(f"last.pt: {saved.progress.batch} batches into an epoch of {steps}; start a new run")
    try:
        learner.model.load_state_dict(content["model"])
        if learner.average.model is not learner.model:
            learner.average.model.load_state_dict(content.get("average", content["model"]))
        if not changed & {"loss", "coupling", "balance"}:
            learner.loss_fn.load_state_dict(content["loss"])
        learner.optimizer.load_state_dict(content["optimizer"])
        if not restarts:
            progress.totals.load_state_dict(content["totals"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise ModelError(f"last.pt: its weights do not fit the settings: {reason}") from None
    for name in PLAIN:
        setattr(progress, name, getattr(saved.progress, name))
    progress.history = saved.history
    if restarts:
        progress.restart_epoch()
    states = saved.random
    if len(states) == processes.count:
        try:
            set_random_state(states[processes.rank], processes.device)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"last.pt: no states of random generators in it ({error})") from None
