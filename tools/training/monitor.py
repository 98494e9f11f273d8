"""Monitoring of training steps: check that results are finite, log them to TensorBoard, show a progress bar."""

from __future__ import annotations

import collections
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from config import SAMPLE_RATE, Config
from tools.common.spectrograms import draw_spectrograms
from tools.scoring.scores import ALL_SCORES
from tools.training.distributed import Processes
from tools.training.failures import report_nonfinite
from tools.training.progress import Learner, Progress, StepResult

SMOOTHED_STEPS = 20
CHARTS = {"loss": {"training and validation": ["Multiline", ["loss/train", "loss/valid"]]}}  # two lines in one


def epoch_tag(column: str) -> str:
    """Return TensorBoard's tag of a column of history.csv: loss/train, terms/LMS_valid, scores/pesq, …"""
    kind, _, name = column.partition("_")
    if kind in ("train", "valid") and name:
        if name == "loss":
            return f"loss/{kind}"
        return f"scores/{name}" if name in ALL_SCORES else f"terms/{name}_{kind}"
    return f"weights/{name}" if kind == "weight" else f"epoch/{column}"


class Monitor:
    """Checks, logs and shows steps, as a context manager; all processes check, only the first logs and shows.

    A step is checked when its numbers have arrived from the device, maybe some steps later. This is safe because
    the optimiser leaves out a step with numbers that are not finite.
    """

    def __init__(
        self, config: Config, learner: Learner, progress: Progress, loader: DataLoader, processes: Processes
    ) -> None:
        self._config, self._learner, self._progress = config, learner, progress
        self._loader, self._processes = loader, processes
        self._transfer = Transfer()
        self._board: Board | None = None
        self._bar: tqdm | None = None
        self._seen = self._saved = self._stepped = self._begun = time.monotonic()
        self._steps, self._loss = 0, 0.0  # of this call, and the loss smoothed over them

    def __enter__(self) -> Monitor:
        if self._processes.is_main:
            self._board = Board(self._config.run_dir / "tensorboard", self._progress.step)
        return self

    def __exit__(self, *_: object) -> None:
        self.hide_bar()
        if self._board:
            self._board.close()

    def start_epoch(self, batches: int) -> None:
        """Show a bar for an epoch of so many batches, training and validation."""
        self._bar = tqdm(
            total=batches,
            initial=self._progress.batch,
            desc=f"epoch {self._progress.epoch}/{self._config.epochs}",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {unit}",
            unit="",
            leave=False,
            dynamic_ncols=True,
            disable=None if self._processes.is_main else True,
        )
        self._seen = self._stepped = self._begun = time.monotonic()

    def follow(self, result: StepResult, rate: float) -> None:
        """Queue a step's result and learning rate, and process those that have arrived from the device.

        Raises UserError if too many steps of the epoch are left out.
        """
        weights = self._learner.loss_fn.weights
        numbers = torch.cat([result.sums, torch.stack([result.gradient_norm, result.left_out])])
        learned = [weight for weight in weights.values() if isinstance(weight, Tensor)]
        if learned:  # also on the device: transfer them with the numbers
            numbers = torch.cat([numbers, torch.stack(learned).to(numbers.dtype)])
        now = time.monotonic()
        self._progress.seconds += now - self._seen
        self._seen = now
        self._transfer.put((self._progress.step, self._progress.batch - 1, rate, weights), numbers)
        self._look(wait=False)
        self.tick()

    def settle(self) -> None:
        """Process all steps so far, waiting for their numbers, and flush the log."""
        self._look(wait=True)
        if self._board:
            self._board.flush()

    def tick(self) -> None:
        """Advance the bar by a batch; after the last one, scoring continues."""
        self._bar.update()
        if not self._bar.disable and self._bar.n >= self._bar.total:
            self._bar.set_description_str(f"{self._bar.desc}, scoring")

    def _time_left(self) -> str:
        """Return the time left in this epoch and in all, from the speed so far."""
        done = max(1, self._bar.n - self._bar.initial)
        epoch = (time.monotonic() - self._begun) / done * self._bar.total
        left = epoch * (1 - self._bar.n / self._bar.total)
        history = self._progress.history
        every = history[-1]["seconds"] if history else epoch
        total = left + every * (self._config.epochs - self._progress.epoch)
        return f"{tqdm.format_interval(left)} left, {tqdm.format_interval(total)} in all"

    def hide_bar(self) -> None:
        if self._bar:
            self._bar.close()

    def is_save_due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        minutes = self._config.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self._saved > 60 * minutes

    def note_save(self) -> None:
        """Note that a checkpoint is being written."""
        self._saved = time.monotonic()

    def log_epoch(self, row: Mapping[str, Any], items: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Log a row of history.csv, and waveforms [samples] by item and signal."""
        self._board.scalars(self._progress.step, {epoch_tag(name): float(value) for name, value in row.items()})
        self._board.items(self._progress.step, items)

    def _look(self, wait: bool) -> None:
        for (step, batch, rate, weights), numbers in self._transfer.arrived(wait):
            names = self._progress.totals.names
            items, *sums = numbers[: 1 + len(names)]
            norm, left_out, *learned = numbers[1 + len(names) :]
            means = {name: total / items for name, total in zip(names, sums, strict=True)}
            if left_out:
                self._count_left_out(step, batch, means | {"gradient norm": norm})
            now = time.monotonic()
            speed, self._stepped = items / (now - self._stepped + 1e-9), now
            if self._board:
                shown = {f"step/{name}": value for name, value in means.items()}
                values = zip(weights, learned or weights.values(), strict=True)
                shown |= {f"step/weight_{name}": weight for name, weight in values}
                shown |= {"step/gradient_norm": norm, "step/learning_rate": rate, "step/items_per_second": speed}
                self._board.scalars(step, shown)
            if not left_out:  # the mean over about twenty steps, fewer at the start
                self._steps += 1
                self._loss += (means["loss"] - self._loss) / min(self._steps, SMOOTHED_STEPS)
            if not self._bar.disable:
                self._bar.unit = f"loss {self._loss:.3g}, {self._time_left()}"

    def _count_left_out(self, step: int, batch: int, values: Mapping[str, float]) -> None:
        self._progress.skipped += 1
        if self._progress.skipped > self._config.skip_nonfinite:
            where = {"epoch": self._progress.epoch, "step": step}
            first, model = self._processes.is_main, self._learner.model
            raise report_nonfinite(self._config, self._loader, batch, model, where, values, first)


class Board:
    """An event file, whose entries are ordered by the step of the optimiser, counted from 1.

    Writes directly: the thread of tensorboardX's own writer reports a full disk only once its queue is full.

    Args:
        folder: Where to write; it may hold event files of earlier calls.
        step: Steps that are done; TensorBoard then ignores what an earlier call logged for later steps.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() // 1000}.{platform.node()}.{os.getpid()}"
        self._writer = RecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._write(step=step, summary=summary.custom_scalars(CHARTS))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers by tag, such as "loss/train"."""
        for tag, value in values.items():
            self._write(step=step, summary=summary.scalar(tag, value))

    def items(self, step: int, items: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Log waveforms [samples] by item and signal: audio of each, and one picture of spectrograms an item."""
        for item, waveforms in items.items():
            for signal, waveform in waveforms.items():
                audio = summary.audio(f"audio/{item}_{signal}", waveform, sample_rate=SAMPLE_RATE)
                self._write(step=step, summary=audio)
            image = draw_spectrograms(waveforms.values())
            figure = summary.image(f"spectrograms/{item}", image, dataformats="HWC")
            self._write(step=step, summary=figure)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write(self, **content: Any) -> None:
        self._writer.write(Event(wall_time=time.time(), **content).SerializeToString())


class Transfer:
    """A queue of tensors that are being transferred to the CPU, each with a label."""

    def __init__(self) -> None:
        self._coming: collections.deque[tuple[Any, Tensor, torch.cuda.Event | None]] = collections.deque()

    def put(self, label: Any, numbers: Tensor) -> None:
        """Start the transfer of a one-dimensional tensor, with a label."""
        event = None
        if numbers.is_cuda:
            pinned = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            numbers = pinned.copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._coming.append((label, numbers, event))

    def arrived(self, wait: bool = False) -> Iterator[tuple[Any, list[float]]]:
        """Yield labels and numbers that have arrived, in order; with `wait`, all that were put in."""
        while self._coming and (wait or self._coming[0][2] is None or self._coming[0][2].query()):
            label, numbers, event = self._coming.popleft()
            if event is not None:
                event.synchronize()
            yield label, numbers.tolist()
