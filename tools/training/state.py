"""The state of a training: all that it changes, saved in last.pt and restored whole."""

import copy
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from losses import CombinedLoss
from models.layers import sync_norms
from tools.common.errors import UserError
from tools.training.distributed import Processes

POSITION = ("epoch", "batch", "step", "skipped", "seconds")  # attributes of TrainingState that are numbers
OTHER_BATCHES = {"data", "seed", "batch_size", "loss"}  # settings that change batches, or what is summed over them
OTHER_LOSS = {"loss", "coupling", "balance"}


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


class Step(NamedTuple):
    """What is known of a step once its numbers have been read from the device."""

    number: int  # of the optimiser, from 1
    batch: int  # of the epoch, from 0
    items: float
    values: dict[str, float]  # means of loss and parts, gradient_norm, learning_rate
    skipped: bool


@dataclass
class TrainingState:
    """Network, loss, optimisers, position, sums and history of a training; all processes hold the same.

    Args:
        ema: Decay of the moving average of the weights, 0 for none.
    """

    model: nn.Module
    loss: CombinedLoss
    processes: Processes
    ema: InitVar[float] = 0.0
    epoch: int = 1
    batch: int = 0  # batches of this epoch that are done
    step: int = 0  # steps of the optimiser in all epochs
    skipped: int = 0  # steps of this epoch whose loss or gradient was not finite
    seconds: float = 0.0  # spent on this epoch
    history: list[dict[str, Any]] = field(default_factory=list)  # a row for each epoch that is done

    def __post_init__(self, ema: float) -> None:
        self.average = WeightAverage(self.model, ema)
        self.wrapped = self.processes.wrap(self.model)  # the same network; a training step calls this one
        if self.processes.world_size > 1:
            sync_norms(self.loss)
        trained = {"network": self.model} | self.loss.trained_terms
        self.optimizers = {
            name: torch.optim.Adam(module.parameters(), fused=True) for name, module in trained.items()
        }
        self.names = ("loss", *self.loss.weights, *(f"{name}_own" for name in self.loss.own_terms))
        # Of this epoch: items, and loss and parts times items. Means over items do not depend on the batches.
        self.sums = torch.zeros(1 + len(self.names), dtype=torch.float64, device=self.processes.device)
        self.unread: list[tuple[int, int, float, Tensor]] = []  # steps, for `read_steps`
        self._clock = time.monotonic()

    @property
    def items_per_second(self) -> float:
        """Return the training items a second of this epoch so far."""
        return float(self.sums[0]) / max(self.seconds, 1e-9)

    def start_training(self) -> None:
        """Set training mode, and start to measure the time."""
        self.wrapped.train()
        self.loss.train()
        self._clock = time.monotonic()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the network's optimiser; those of loss terms follow it."""
        for name, optimizer in self.optimizers.items():
            factor = self.loss.own_terms[name].own_rate if name in self.loss.own_terms else 1.0
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def count_step(self, rate: float, sums: Tensor, norm: Tensor, skipped: Tensor) -> None:
        """Count a step of all optimisers; a skipped one adds no sums.

        sums: as `batch_sums` returns them, over all processes. norm: of the network's gradient. skipped: a flag.
        All are on the device, where they stay until `read_steps`.
        """
        self.sums += torch.where(skipped, torch.zeros_like(sums), sums)
        self.unread.append((self.step + 1, self.batch, rate, torch.cat([sums, torch.stack([norm, skipped])])))
        self.batch += 1
        self.step += 1
        self.average.update(self.step)
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def read_steps(self) -> Iterator[Step]:
        """Yield the steps since the last call, read from the device in one transfer, and count skipped ones."""
        unread, self.unread = self.unread, []
        rows = torch.stack([numbers for *_, numbers in unread]).tolist() if unread else []
        for (number, batch, rate, _), (items, *sums, norm, skipped) in zip(unread, rows, strict=True):
            self.skipped += int(skipped)
            averages = {name: total / items for name, total in zip(self.names, sums, strict=True)}
            values = averages | {"gradient_norm": norm, "learning_rate": rate}
            yield Step(number, batch, items, values, bool(skipped))

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Add the finished epoch's row to the history, and go to the next epoch."""
        self.history.append(row)
        self._restart_epoch()
        self.epoch += 1

    def _restart_epoch(self) -> None:
        self.sums.zero_()
        self.batch = self.skipped = 0
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the content of last.pt but for the settings; all processes must call this.

        Steps must have been read: see `read_steps`.
        """
        content = {
            "epoch": len(self.history),
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "progress": {name: getattr(self, name) for name in POSITION},
            "totals": {"sums": self.sums.cpu()},
            "history": self.history,
            "random": self.processes.gather(random_state(self.processes.device)),
        }
        return content | ({"average": self.average.model.state_dict()} if self.average.decay else {})

    def load_state_dict(self, content: Mapping[str, Any], changed: Collection[str] = ()) -> None:
        """Restore a state. Raises UserError if the weights do not fit.

        changed: settings that differ from those it was saved with. With another loss, the loss starts as new; if
        they change the batches, the epoch starts again.
        """
        changed = set(changed)
        try:
            self.model.load_state_dict(content["model"])
            if self.average.decay:
                self.average.model.load_state_dict(content.get("average", content["model"]))
            if not changed & OTHER_LOSS:
                self.loss.load_state_dict(content["loss"])
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"last.pt: its weights do not fit the settings: {reason}") from None
        # Before losses had weights, the network's optimiser was the only one.
        saved = content.get("optimizers") or {"network": content["optimizer"]}
        for name in {"network"} if changed & OTHER_LOSS else saved:
            self.optimizers[name].load_state_dict(saved[name])
            _lay_out_like_weights(self.optimizers[name])
        for name in POSITION:
            setattr(self, name, content["progress"][name])
        self.history = content["history"]
        if changed & OTHER_BATCHES:
            self._restart_epoch()
        else:
            self.sums.copy_(content["totals"]["sums"])
        if len(content["random"]) == self.processes.world_size:
            set_random_state(content["random"][self.processes.rank], self.processes.device)


def batch_sums(loss: Tensor, parts: Mapping[str, Tensor], items: int) -> Tensor:
    """Return a batch's contribution to sums, float64: items, and loss and each part times items."""
    means = torch.stack([loss, *parts.values()]).detach().double()
    count = means.new_full((1,), items)  # new_tensor would copy from the CPU, and wait
    return torch.cat([count, means * items])


def means(names: Collection[str], sums: Tensor) -> dict[str, float]:
    """Return the means over all items, by name; waits for the device."""
    count, *totals = sums.tolist()
    return {name: total / count if count else math.nan for name, total in zip(names, totals, strict=True)}


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's random generators, on the CPU and the device."""
    state = {"torch": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the state of torch's random generators."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _lay_out_like_weights(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimiser's moments the memory layout of their weights, which fused Adam assumes."""
    for weight, state in optimizer.state.items():
        for name, moment in state.items():
            if moment.shape == weight.shape and moment.stride() != weight.stride():
                state[name] = torch.empty_like(weight).copy_(moment)
