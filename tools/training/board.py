"""TensorBoard logs: numbers of every step and epoch, audio and spectrograms of validation items."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

from config import SAMPLE_RATE
from tools.common.spectrograms import draw_spectrograms

CHARTS = {"loss": {"training and validation": ["Multiline", ["loss/train", "loss/valid"]]}}  # two lines in one


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
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
        self._write(Event(step=step, summary=summary.custom_scalars(CHARTS)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers by tag, such as "loss/train"."""
        for tag, value in values.items():
            self._write(Event(step=step, summary=summary.scalar(tag, value)))

    def items(self, step: int, items: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Log waveforms [samples] by item and signal: audio of each, and one picture of spectrograms an item."""
        for item, waveforms in items.items():
            for signal, waveform in waveforms.items():
                audio = summary.audio(f"audio/{item}_{signal}", waveform, sample_rate=SAMPLE_RATE)
                self._write(Event(step=step, summary=audio))
            image = draw_spectrograms(waveforms.values())
            figure = summary.image(f"spectrograms/{item}", image, dataformats="HWC")
            self._write(Event(step=step, summary=figure))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
