"""Enhancement of sound files in blocks, with constant memory and atomic writing."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from torch import nn

from tools.common.audio_files import SUFFIXES, open_audio
from tools.common.errors import UserError
from tools.common.files import replacing
from tools.inference.signal_chain import HIGHEST_RATE, LOWEST_RATE, NOTHING_KEPT, Kept, SignalChain

LOSSY = (".mp3", ".ogg", ".oga", ".opus")  # may be slightly longer or shorter than what was written
SCAN_FRAMES = 1 << 18


@dataclass(frozen=True)
class Recording:
    """Properties of a sound file that was read through."""

    path: Path
    rate: int  # Hz
    channels: int
    frames: int
    peak: float  # highest magnitude; floating-point files may go beyond 1


def audio_seconds(path: Path) -> float:
    """Return the seconds of audio by a file's header; 0 if it cannot be read."""
    try:
        return soundfile.info(path).duration if path.is_file() else 0.0  # opening a pipe would wait
    except (soundfile.SoundFileError, TypeError, ValueError, OSError):
        return 0.0


def inspect(path: Path) -> Recording:
    """Read a file through, to find damage before anything is written.

    Raises UserError if it is no sound file, is cut off, is empty, or holds NaN or infinity.
    """
    with _naming(path), open_audio(path) as file:
        if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
            raise UserError(f"{path}: found {file.samplerate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
        frames, peak = 0, 0.0
        for block in file.blocks(SCAN_FRAMES, dtype="float32", always_2d=True):
            highest = float(np.abs(block).max(initial=0.0))
            if not np.isfinite(highest):
                raise UserError(f"{path}: found {highest} among its samples, expected finite numbers")
            frames, peak = frames + len(block), max(peak, highest)
        if frames < file.frames:
            raise UserError(f"{path}: its header announces {file.frames} samples but {frames} can be read")
        return Recording(path, file.samplerate, file.channels, frames, peak)


def enhance_recording(
    model: nn.Module,
    recording: Recording,
    target: Path,
    kept: Kept = NOTHING_KEPT,
    block_seconds: float = 1.0,
    progress: Callable[[int], None] = lambda frames: None,
) -> None:
    """Write the enhanced recording: same rate, channels and length; same format if the suffix is the same.

    progress: called with the frames of each block read. Raises UserError if the file cannot be read or written.
    """
    chain = SignalChain(model, recording.rate, recording.channels, kept, recording.peak)
    block = max(1, round(block_seconds * recording.rate))
    with _naming(recording.path), soundfile.SoundFile(recording.path) as source:
        encoding = _encoding(source, target)
        form = {"samplerate": recording.rate, "channels": recording.channels, **encoding}
        with replacing(target) as temporary:
            unwritten = _naming(target, "could it not be written, is the disk full?")
            with unwritten, soundfile.SoundFile(temporary, "w", **form) as file:
                for noisy in source.blocks(block, dtype="float32", always_2d=True):
                    file.write(_finite(chain.push(noisy), recording.path))
                    progress(len(noisy))
                file.write(_finite(chain.finish(), recording.path))
            _check_written(temporary, target, recording)


def _check_written(temporary: Path, target: Path, recording: Recording) -> None:
    """Raise UserError if a file is incomplete: the sound library does not report a full disk."""
    padding = recording.rate if target.suffix.lower() in LOSSY else 0
    with contextlib.suppress(UserError):
        if inspect(temporary).frames + padding >= recording.frames:
            return
    raise UserError(f"{target}: could not be written whole, is the disk full?")


def _finite(estimate: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(estimate).all():
        raise UserError(
            f"{path}: the network's estimate holds NaN or infinity; train or choose another checkpoint"
        )
    return estimate


def _encoding(source: soundfile.SoundFile, target: Path) -> dict[str, str]:
    """Return format and sample encoding of the target: those of the source if their suffixes agree."""
    if target.suffix.lower() == Path(source.name).suffix.lower():
        encoding = {"format": source.format, "subtype": source.subtype, "endian": source.endian}
    else:
        names = {"OPUS": "OGG", "OGA": "OGG", "AIF": "AIFF", "SPH": "NIST"}
        name = target.suffix[1:].upper()
        encoding = {"format": names.get(name, name), "subtype": "OPUS" if name == "OPUS" else None}
        if encoding["format"] not in soundfile.available_formats():
            raise UserError(f"{target}: unknown format {target.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    if not soundfile.check_format(**encoding):
        described = "/".join(str(value) for value in encoding.values() if value)
        raise UserError(f"{target}: {described} can be read but not written; name a .wav or .flac with -o")
    return encoding


@contextlib.contextmanager
def _naming(path: Path, advice: str = "expected a sound file") -> Iterator[None]:
    """Turn errors of the sound library into UserError with the file's name."""
    try:
        yield
    except UserError:
        raise
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error))
        raise UserError(f"{path}: {reason.strip().rstrip('.')}; {advice}") from None
