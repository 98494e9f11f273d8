"""Monitoring of a training: TensorBoard, a progress bar, and a check that steps are finite."""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from torch.utils.data import DataLoader
from tqdm import tqdm

from config import SAMPLE_RATE, Config
from tools.common.audio import draw_spectrograms
from tools.common.errors import UserError
from tools.scoring.scores import METRICS
from tools.training.state import Step, TrainingState

CHARTS = {"loss": {"training and validation": ["Multiline", ["loss/train", "loss/valid"]]}}  # two lines in one


def epoch_tag(column: str) -> str:
    """Return TensorBoard's tag of a column of history.csv: loss/train, terms/LMS_valid, scores/pesq, …"""
    kind, _, name = column.partition("_")
    if kind in ("train", "valid") and name:
        if name == "loss":
            return f"loss/{kind}"
        return f"scores/{name}" if name in METRICS else f"terms/{name}_{kind}"
    return f"weights/{name}" if kind == "weight" else f"epoch/{column}"


class Monitor:
    """Reads, checks, logs and shows steps; only the main process logs and shows.

    loader: of the training items.
    """

    def __init__(self, config: Config, state: TrainingState, loader: DataLoader) -> None:
        self._config, self._state, self._loader = config, state, loader
        main = state.processes.is_main
        self._board = Board(config.run_dir / "tensorboard", state.step) if main else None
        self._bar = tqdm(disable=True)
        self.read_at = time.monotonic()

    def close(self) -> None:
        self._bar.close()
        if self._board:
            self._board.close()

    def start_epoch(self, batches: int) -> None:
        """Show a bar for an epoch of so many batches, training and validation."""
        self._bar = tqdm(
            total=batches,
            initial=self._state.batch,
            desc=f"epoch {self._state.epoch}/{self._config.epochs}",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {remaining} left{postfix}",
            leave=False,
            dynamic_ncols=True,
            disable=None if self._state.processes.is_main else True,
        )
        self.read_at = time.monotonic()

    def log_epoch(self, row: Mapping[str, Any], items: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Log a row of history.csv, and waveforms [samples] by item and signal, and hide the bar."""
        self._bar.close()
        step = self._state.step
        self._board.scalars(step, {epoch_tag(name): float(value) for name, value in row.items()})
        self._board.items(step, items)
        self._board.flush()

    def flush(self) -> None:
        """Read the steps since the last call from the device, check and log them.

        The optimisers skip a step that is not finite at once, so that checking later is safe. Raises UserError if
        more than config.skip_nonfinite steps of the epoch were skipped.
        """
        steps, begun = [], self.read_at
        for step in self._state.read_steps():
            if step.skipped and self._state.skipped > self._config.skip_nonfinite:
                raise self._nonfinite(step)
            steps.append(step)
            if self._board:
                self._board.scalars(step.number, {f"step/{name}": value for name, value in step.values.items()})
        self.read_at = time.monotonic()
        if steps and self._board:
            speed = sum(step.items for step in steps) / (self.read_at - begun + 1e-9)
            weights = {f"step/weight_{name}": float(w) for name, w in self._state.loss.weights.items()}
            self._board.scalars(steps[-1].number, weights | {"step/items_per_second": speed})
            self._board.flush()
        losses = [step.values["loss"] for step in steps if not step.skipped]
        if losses:
            self._bar.set_postfix_str(f"loss {sum(losses) / len(losses):.3g}", refresh=False)
        self._bar.update(len(steps))

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches of the validation, and advance the bar."""
        for batch in batches:
            yield batch
            self._bar.update()

    def _nonfinite(self, step: Step) -> UserError:
        """Return the error that names epoch, step, items and terms."""
        bad = ", ".join(name for name, value in step.values.items() if not math.isfinite(value))
        shown = ", ".join(f"{name} {value:.4g}" for name, value in step.values.items())
        numbers = self._loader.batch_sampler.global_batch(step.batch)
        reason = "try a lower --learning_rate, or --clip_grad"
        if math.isfinite(step.values["loss"]):
            reason = "probably sqrt or log at 0 in a term"
        return UserError(
            f"epoch {self._state.epoch}, step {step.number}: not finite: {bad} ({shown}); items "
            f"{', '.join(map(str, numbers))} of {self._config.data}; {reason}; --skip_nonfinite skips such steps"
        )


class Board:
    """An event file of TensorBoard, ordered by the step of the optimiser, counted from 1.

    tensorboardX's SummaryWriter writes from a thread: it would lose what it has not written when the program is
    killed, and if the disk is full, the program would wait for that thread forever.

    Args:
        folder: Where to write; it may hold event files of earlier calls.
        step: Steps that are done; TensorBoard then ignores what an earlier call logged for later steps.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))
        self._write(step, summary=summary.custom_scalars(CHARTS))
        self.flush, self.close = self._writer.flush, self._writer.close

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers by tag, such as "loss/train"."""
        for tag, value in values.items():
            self._write(step, summary=summary.scalar(tag, value))

    def items(self, step: int, items: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Log waveforms [samples] by item and signal: audio of each, and one picture of spectrograms an item."""
        for item, waveforms in items.items():
            for signal, waveform in waveforms.items():
                audio = summary.audio(f"audio/{item}_{signal}", waveform, sample_rate=SAMPLE_RATE)
                self._write(step, summary=audio)
            image = draw_spectrograms(waveforms.values())
            self._write(step, summary=summary.image(f"spectrograms/{item}", image, dataformats="HWC"))

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
