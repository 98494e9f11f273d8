"""Audio files of any format, rate, channels and bit depth, as mono at the project's sample rate."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from config import SAMPLE_RATE
from tools.common.errors import UserError

SUFFIXES = tuple(
    f".{name}"
    for name in ["wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "au", "caf", "sph", "w64", "rf64"]
)
LOSSY = ("MP3",)  # frames depend on earlier ones, and the header may announce a few samples too many


@dataclass(frozen=True)
class AudioFormat:
    """The header of an audio file."""

    rate: int  # Hz
    channels: int
    frames: int  # samples of each channel

    @property
    def samples(self) -> int:
        """Return the length at the project's sample rate."""
        return self.frames * SAMPLE_RATE // self.rate


def find_audio(folder: Path) -> tuple[list[str], dict[Path, str]]:
    """Return sorted paths of the audio files below a folder, relative to it, and why others cannot be used.

    Paths have a /. Links are followed; hidden files and folders are left out.
    """
    visited, found, refused = set(), [], {}

    def refuse(error: OSError) -> None:
        refused[Path(error.filename)] = f"cannot be opened ({error.strerror})"

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        place = os.path.realpath(parent)
        if place in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(place)
        named = [name for name in folders if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
        refused |= {Path(parent, name): "a folder, expected an audio file" for name in named}
        folders[:] = [name for name in folders if name[0] != "." and name not in named]
        paths = [Path(parent, name) for name in files if name[0] != "."]
        found += [path.relative_to(folder).as_posix() for path in paths if path.suffix.lower() in SUFFIXES]
    return sorted(found), refused


def read_format(path: Path) -> AudioFormat:
    """Return the header of an audio file. Raises UserError."""
    with open_audio(path) as file:
        return AudioFormat(file.samplerate, file.channels, file.frames)


def read(path: Path, start: int = 0, samples: int | None = None) -> np.ndarray:
    """Return part of a recording, float64 `[samples]`, the mean of its channels, full scale 1.

    Args:
        path: The file.
        start: First sample, counted at the project's sample rate.
        samples: Number of samples; None for the rest. Parts that do not overlap share no sample of the file.

    Raises UserError if the file is unreadable, holds less than its header says, NaN or infinity.
    """
    with open_audio(path) as file:
        rate = file.samplerate
        first = start * rate // SAMPLE_RATE
        end = file.frames if samples is None else min((start + samples) * rate // SAMPLE_RATE, file.frames)
        try:
            channels = _read_frames(file, first, end)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise UserError(f"not readable at {first / rate:.1f} s ({_reason(error)})") from None
        if len(channels) < end - first and file.format not in LOSSY:
            raise UserError(f"cut short: its header says {file.frames} samples, {first + len(channels)} are there")
    if not np.isfinite(channels).all():
        raise UserError("holds NaN or infinity")
    mono = channels.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    if samples is None:
        return mono
    wanted = max(0, min(samples, AudioFormat(rate, 1, file.frames).samples - start))
    # Resampling leaves a sample more or less than wanted.
    return np.pad(mono[:wanted], (0, max(wanted - mono.size, 0)))


def _read_frames(file: soundfile.SoundFile, first: int, end: int) -> np.ndarray:
    """Return float64 `[frames, channels]`."""
    if file.format not in LOSSY:
        file.seek(first)
        return file.read(end - first, dtype="float64", always_2d=True)
    # After a seek in an MP3, libsndfile gives silence for some 0.2 s, and its decoder complains on stderr.
    lead = min(first, file.samplerate)
    with _quiet():
        file.seek(first - lead)
        return file.read(lead + end - first, dtype="float64", always_2d=True)[lead:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what libraries write to stderr."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open an audio file. Raises UserError if it cannot be read or holds no samples."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait
            raise UserError("no regular file, such as a folder or a pipe")
        path.open("rb").close()  # raises the system's error, which libsndfile reports as "System error" only
        file = soundfile.SoundFile(path)
    except OSError as error:
        raise UserError(f"cannot be opened ({error.strerror})") from None
    except UnicodeEncodeError:
        raise UserError("its name is not text; rename it") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        reason = f"not readable as audio ({_reason(error)})" if path.stat().st_size else "an empty file"
        raise UserError(reason) from None
    with file:
        if file.frames <= 0:
            raise UserError("holds no samples")
        yield file


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return text.strip().rstrip(".").replace("\n", " ")
