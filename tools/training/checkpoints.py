"""last.pt: the checkpoint from which a training resumes exactly."""

import random
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
import torch

from config import Config
from tools.common.errors import UserError
from tools.common.schema import check
from tools.training.distributed import Processes
from tools.training.progress import Learner, Progress

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**50)]


class _Position(msgspec.Struct):
    """The plain values of a `Progress`."""

    epoch: Annotated[int, msgspec.Meta(ge=1, lt=2**50)]
    batch: Count
    step: Count
    skipped: Count
    seconds: Annotated[float, msgspec.Meta(ge=0, lt=2**50)]


class _Saved(msgspec.Struct):
    """The parts of a checkpoint that are plain values."""

    progress: _Position
    history: list[dict[str, int | float]]
    random: list[Any]


def checkpoint(config: Config, learner: Learner, progress: Progress, processes: Processes) -> dict[str, Any]:
    """Return the content of last.pt; all processes must call this, as each has its own random states."""
    content = {
        "config": config.to_dict(),
        "epoch": len(progress.history),
        "model": learner.model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "loss": learner.loss_fn.state_dict(),
        "progress": {name: getattr(progress, name) for name in _Position.__struct_fields__},
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
    """Restore learner, progress and random states from a checkpoint.

    changed: settings that differ from the checkpoint's; if they change the items of a batch, the epoch starts
    again. steps: of an epoch. Raises UserError or UserError if the checkpoint does not fit.
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
        lay_out_like_weights(learner.optimizer)
        if not restarts:
            progress.totals.load_state_dict(content["totals"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UserError(f"last.pt: its weights do not fit the settings: {reason}") from None
    for name, value in msgspec.structs.asdict(saved.progress).items():
        setattr(progress, name, value)
    progress.history = saved.history
    if restarts:
        progress.restart_epoch()
    states = saved.random
    if len(states) == processes.world_size:
        try:
            set_random_state(states[processes.rank], processes.device)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"last.pt: no states of random generators in it ({error})") from None


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the random generators of Python, numpy, torch and the device."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002, other packages may use it
    state = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore the state of the random generators."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def lay_out_like_weights(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimiser's moments the memory layout of their weights, which fused Adam assumes.

    Raises ValueError for a moment of another shape, beyond whose end fused Adam would write.
    """
    for weight, state in optimizer.state.items():
        for name, moment in state.items():
            if moment.shape not in (weight.shape, ()):
                raise ValueError(f"{name} of shape {list(moment.shape)} for a weight of {list(weight.shape)}")
            if moment.shape == weight.shape and moment.stride() != weight.stride():
                state[name] = torch.empty_like(weight).copy_(moment)
