"""Enhancement of sound files in blocks, with constant memory and atomic writing."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from torch import nn

from tools.common.audio import open_audio
from tools.common.errors import UserError
from tools.common.files import replacing
from tools.inference.signal_chain import (
    BLOCK_SECONDS,
    LIVE_BLOCK_SECONDS,
    EnhanceOptions,
    Recording,
    SignalChain,
    inspect,
)

LOSSY = (".mp3", ".ogg", ".oga", ".opus")  # may be slightly longer or shorter than what was written
LOSSY_PADDING = 4096  # samples
FORMATS = {"OPUS": "OGG", "OGA": "OGG", "AIF": "AIFF", "SPH": "NIST"}  # of suffixes that are not the format's name
SCAN_FRAMES = 1 << 18


def read_through(path: Path) -> Recording:
    """Read a file through, to find damage before anything is written.

    Raises UserError if it is no sound file, is cut off, is empty, or holds NaN or infinity.
    """
    with _naming(path), open_audio(path) as file:
        recording = inspect(file.blocks(SCAN_FRAMES, dtype="float32", always_2d=True))
        if recording.frames < file.frames:
            raise UserError(f"its header announces {file.frames} samples but {recording.frames} can be read")
        return recording


def enhance_file(
    model: nn.Module,
    source: Path,
    target: Path,
    options: EnhanceOptions,
    stream: bool = False,
    progress: Callable[[float], object] | None = None,
) -> float:
    """Write the enhanced recording: same rate, channels and length; same format if the suffix is the same.

    stream: in blocks of 20 ms, as a live signal. progress: called with the seconds of each block.
    Return the seconds of audio. Raises UserError if the file cannot be read or written; nothing is written then.
    """
    recording = read_through(source)
    with _naming(source), soundfile.SoundFile(source) as file:
        known = dataclasses.replace(recording, frames=math.inf) if stream else recording
        chain = SignalChain(model, file.samplerate, file.channels, options, known)
        encoding = {"samplerate": file.samplerate, "channels": file.channels, **_encoding(file, target)}
        block = max(1, round((LIVE_BLOCK_SECONDS if stream else BLOCK_SECONDS) * file.samplerate))
        with replacing(target) as temporary:
            with _naming(target, "; is the disk full?"), soundfile.SoundFile(temporary, "w", **encoding) as out:
                for noisy in file.blocks(block, dtype="float32", always_2d=True):
                    out.write(_finite(chain.push(noisy)))
                    if progress:
                        progress(len(noisy) / file.samplerate)
                out.write(_finite(chain.finish()))
            _check_written(temporary, target, recording.frames)
        return recording.frames / file.samplerate


def _check_written(temporary: Path, target: Path, frames: int) -> None:
    """Raise UserError if a file is incomplete: the sound library does not report a full disk."""
    padding = LOSSY_PADDING if target.suffix.lower() in LOSSY else 0
    with contextlib.suppress(UserError):
        if read_through(temporary).frames + padding >= frames:
            return
    raise UserError(f"{target}: could not be written whole, is the disk full?")


def _finite(estimate: np.ndarray) -> np.ndarray:
    if not np.isfinite(estimate).all():
        raise UserError("the network's estimate holds NaN or infinity; train or choose another checkpoint")
    return estimate


def _encoding(source: soundfile.SoundFile, target: Path) -> dict[str, str | None]:
    """Return format and sample encoding of the target: those of the source if their suffixes agree."""
    if target.suffix.lower() == Path(source.name).suffix.lower():
        encoding = {"format": source.format, "subtype": source.subtype, "endian": source.endian}
    else:
        name = target.suffix[1:].upper()
        encoding = {"format": FORMATS.get(name, name), "subtype": "OPUS" if name == "OPUS" else None}
    if not soundfile.check_format(**encoding):
        described = "/".join(value for value in encoding.values() if value)
        raise UserError(f"{described} cannot be written; name a .wav or .flac with -o")
    return encoding


@contextlib.contextmanager
def _naming(path: Path, advice: str = "") -> Iterator[None]:
    """Put the file's name before errors of the sound library, and of the functions here."""
    try:
        yield
    except (UserError, soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise UserError(reason if reason.startswith(str(path)) else f"{path}: {reason}{advice}") from None
