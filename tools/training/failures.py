"""Losses and gradients that are not finite, and loading processes that have died."""

import contextlib
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from config import Config
from dataloader.description import read_items
from tools.common.errors import UserError
from tools.common.run_folder import save_checkpoint

NONFINITE = "nonfinite_batch.pt"


@contextlib.contextmanager
def naming_dead_loaders() -> Iterator[None]:
    """Raise UserError if a loading process dies, which torch reports at any place, from a signal handler."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch reports another one while the program ends
        raise UserError(
            f"a process that loads data has died, as happens when memory runs out ({str(error).splitlines()[0]}); "
            "try fewer --workers; the last checkpoint is intact; rerun the same command to resume"
        ) from None


class NormStatistics:
    """Copies of a network's buffers before a step, to restore if the step is left out."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]

    def put_back(self, flag: Tensor) -> None:
        """Restore the buffers if a flag on the device is set, without waiting for it."""
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(torch.where(flag, before, buffer))


def report_nonfinite(
    config: Config,
    loader: DataLoader,
    batch: int,
    model: nn.Module,
    where: Mapping[str, int],
    values: Mapping[str, float],
    is_main: bool,
) -> UserError:
    """Return the error for a batch whose loss or gradient is not finite; the first process saves the batch.

    loader, batch: of the epoch, and number of the batch. where: epoch, step. values: loss, parts, gradient norm.
    """
    numbers = loader.batch_sampler.global_batch(batch)
    path = config.run_dir / NONFINITE
    if is_main:
        items = [loader.dataset[number] for number in numbers]
        save_checkpoint(
            path,
            {
                "config": config.to_dict(),
                "model": model.state_dict(),
                **where,
                "values": dict(values),
                "items": numbers,
                "noisy": torch.stack([noisy for noisy, _, _ in items]),
                "clean": torch.stack([clean for _, clean, _ in items]),
            },
        )
    bad = ", ".join(name for name, value in values.items() if not math.isfinite(value))
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    place = ", ".join(f"{name} {number}" for name, number in where.items())
    return UserError(
        f"{place}: not finite: {bad} ({shown}); items {describe_items(config.data, numbers)}; batch and weights "
        f"are in {path}, earlier checkpoints are intact; try a lower --learning_rate, or --clip_grad, or "
        "--skip_nonfinite"
    )


def describe_items(data: str, numbers: Sequence[int]) -> str:
    """Return the items' numbers, with speech, noise and SNR if the set lists them."""
    wanted = set(numbers)
    try:
        training = (item for split, item in read_items(Path(data)) if split == "train")
        known = {number: item for number, item in enumerate(training) if number in wanted}
    except (UserError, OSError):
        known = {}
    return "; ".join(f"{number}{_made_of(known.get(number, {}))}" for number in numbers)


def _made_of(item: Mapping[str, Any]) -> str:
    named = [Path(str(item[key])).name for key in ("speech", "noise") if item.get(key)]
    named += [f"{item['snr_db']:g} dB"] if "snr_db" in item else []
    return f" ({', '.join(named)})" if named else ""
