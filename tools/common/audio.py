"""Audio: files of any format as mono at the project's rate, WAV files to listen to, spectrograms in dB."""

import contextlib
import functools
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from config import SAMPLE_RATE
from tools.common.errors import UserError
from tools.common.files import replacing

DECODED = (".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".wma", ".amr", ".3gp")  # by ffmpeg
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".sph")
SUFFIXES += (".w64", ".rf64", *DECODED)
MP3 = "MPEG_LAYER_III"  # subtype: frames depend on earlier ones
MP3_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1; MPEG 2 has their halves, MPEG 2.5 their quarters
BLOCK_CODECS = ("MS_ADPCM", "IMA_ADPCM", "GSM610", MP3)  # subtypes of WAV whose last block is padded
BLOCK = 1 << 18  # samples
DYNAMIC_RANGE = 70  # dB below the loudest point that a spectrogram shows
GAP = 6  # pixels between two spectrograms
OFFSET = 0.03  # of the standard deviation: a larger mean is a DC offset
# Of the loudest channel's power, for each channel: uncorrelated channels leave 1, two of which one is silent 0.5.
CANCELLED = 0.4
LOUD = 0.8  # of the loudest channel's power: the first channel above it is used
LONGEST_DELAY = SAMPLE_RATE // 10  # samples
ALIGNED_GAIN = 10**0.1  # a shift is a delay if it raises SI-SDR by at least 1 dB
HAS_OFFSET = "with a DC offset (removed)"
HAS_OPPOSITE = "whose channels cancel or are mostly silent (a loud one is used)"


class AudioFormat(NamedTuple):
    """The header of an audio file."""

    rate: int  # Hz
    frames: int  # samples of each channel
    samples: int  # the same at the project's sample rate


def find_audio(folder: Path) -> tuple[list[str], dict[Path, str]]:
    """Return sorted paths of the audio files below a folder, relative to it, and why some folders cannot be read.

    Paths have a /. Links are followed; hidden files and folders are left out.
    """
    visited, found, rejected = set(), [], {}

    def reject(error: OSError) -> None:
        rejected[Path(error.filename)] = f"cannot be opened ({error.strerror})"

    for parent, folders, files in os.walk(folder, onerror=reject, followlinks=True):
        if os.path.realpath(parent) in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(os.path.realpath(parent))
        folders[:] = [name for name in folders if name[0] != "."]
        paths = [Path(parent, name) for name in files if name[0] != "."]
        found += [path.relative_to(folder).as_posix() for path in paths if path.suffix.lower() in SUFFIXES]
    return sorted(found), rejected


def read_format(path: Path) -> AudioFormat:
    """Return the header of an audio file. Raises UserError."""
    with open_audio(path) as file:
        return AudioFormat(file.samplerate, file.frames, file.frames * SAMPLE_RATE // file.samplerate)


def read(path: Path, start: int = 0, samples: int | None = None, traits: set[str] | None = None) -> np.ndarray:
    """Return part of a recording, float64 `[samples]`, full scale 1: `mix_down` of its channels.

    Args:
        path: The file.
        start: First sample, counted at the project's sample rate.
        samples: Number of samples; None for the rest. Parts that do not overlap share no sample of the file.
        traits: Gets HAS_OFFSET and HAS_OPPOSITE if they are true.

    Raises UserError if the file is unreadable, holds less than its header says, NaN or infinity.
    """
    with open_audio(path) as file:
        rate = file.samplerate
        first = start * rate // SAMPLE_RATE
        end = file.frames if samples is None else min((start + samples) * rate // SAMPLE_RATE, file.frames)
        channels = _read_channels(file, first, end)
        around = channels  # half a second or more, which tell an offset from a low tone
        if end - first < rate // 2:
            around = _read_channels(file, max(0, end - rate // 2), min(file.frames, first + rate // 2))
    mono = mix_down(channels, around, set() if traits is None else traits)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    if samples is None:
        return mono
    wanted = max(0, min(samples, file.frames * SAMPLE_RATE // rate - start))
    # Resampling leaves a sample more or less than wanted.
    return np.pad(mono[:wanted], (0, max(wanted - mono.size, 0)))


def mix_down(channels: np.ndarray, around: np.ndarray, traits: set[str]) -> np.ndarray:
    """Return the mean of channels `[samples, channels]` or, if they cancel, a loud one; without a DC offset.

    around: the part of the recording that decides. traits: gets HAS_OFFSET and HAS_OPPOSITE if they are true.
    """
    mono, whole, powers = channels.mean(axis=1), around.mean(axis=1), around.var(axis=0)
    if whole.var() < CANCELLED / powers.size * powers.max():
        traits.add(HAS_OPPOSITE)
        loud = np.argmax(powers > LOUD * powers.max())
        mono, whole = channels[:, loud], around[:, loud]
    offset = whole.mean()
    if abs(offset) > OFFSET * whole.std():
        traits.add(HAS_OFFSET)
        mono = mono - offset
    return mono


def _read_channels(file: soundfile.SoundFile, first: int, end: int) -> np.ndarray:
    """Return the samples of an open file from `first` to before `end`, `[samples, channels]`."""
    # After a seek in an MP3, libsndfile gives silence for some 0.2 s.
    lead = min(first, file.samplerate) if file.subtype == MP3 else 0
    file.seek(first - lead)
    channels = file.read(lead + end - first, dtype="float64", always_2d=True)[lead:]
    if len(channels) < end - first and file.subtype != MP3:
        raise ValueError(f"cut short: its header says {file.frames} samples, {first + len(channels)} are there")
    if not np.isfinite(channels).all():
        raise ValueError("holds NaN or infinity")
    return channels


def find_delay(clean: np.ndarray, signal: np.ndarray) -> int | None:
    """Return the delay of the speech in the signal in samples (negative if early), at most 0.1 s.

    It maximises the correlation, in either polarity, and is 0 unless it raises SI-SDR by 1 dB or more; None if a
    longer delay raises it by a further 1 dB.
    """
    from scipy.signal import correlate  # takes seconds to import

    clean, signal = clean.astype(np.float64), signal.astype(np.float64)
    correlation = correlate(signal, clean, method="fft") ** 2 / ((clean @ clean) * (signal @ signal))
    correlation = np.clip(correlation, 0, 1 - 1e-12)
    ratio = correlation / (1 - correlation)  # SI-SDR, as a ratio of energies
    centre, reach = clean.size - 1, min(LONGEST_DELAY, clean.size - 1, signal.size - 1)
    near = ratio[centre - reach : centre + reach + 1]
    best = int(near.argmax())
    if ratio.max() >= ALIGNED_GAIN * near[best]:
        return None
    return best - reach if near[best] >= ALIGNED_GAIN * near[reach] else 0


@contextlib.contextmanager
def open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a sound file for reading and seeking, or a decoded copy of it.

    Raises UserError with its name if it cannot be opened, and for a ValueError or libsndfile's error in the block.

    Copies stand for files with a wrong length, in which libsndfile cannot seek (GSM), or which it does not read
    whole (joined MP3s, chained Ogg) or at all: the latter are decoded by ffmpeg if that is installed.
    """
    try:
        way = _choose_way(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        with contextlib.ExitStack() as stack:
            source = path
            if way:
                source = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "copy"
                _copy(path, source) if way == "copy" else _decode(path, source, way)
            file = stack.enter_context(soundfile.SoundFile(os.fsencode(source)))
            if file.frames <= 0:
                raise ValueError("holds no samples")
            yield file
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: not readable ({error.error_string.strip('. ')})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_blocks(file: soundfile.SoundFile, size: int = BLOCK) -> Iterator[np.ndarray]:
    """Yield float32 blocks [n, channels] up to the end, whatever length the header says."""
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        yield block


class _Sequential(soundfile.SoundFile):
    """A file that is read without seeking, as soundfile does after each read of others."""

    def seekable(self) -> bool:
        return False


@functools.lru_cache(1 << 16)
def _choose_way(path: Path, changed: int) -> str:
    """Return "" for a file that libsndfile reads and seeks in, "copy" if it only reads it, or why it does not."""
    path.open("rb").close()  # raises the system's error, which libsndfile reports as "System error" only
    if path.suffix.lower() in DECODED:  # libsndfile may take their inside for a file
        return "needs ffmpeg"
    try:
        file = soundfile.SoundFile(os.fsencode(path))  # a name may be no text
    except (soundfile.SoundFileError, TypeError) as error:
        reason = getattr(error, "error_string", str(error))
        return f"not readable as audio ({reason.strip('. ')})"
    with file:
        content = path.read_bytes() if file.format in ("MP3", "OGG") else b""
        excess = _count_mp3(content, file.samplerate) - file.frames if file.format == "MP3" else 0
        tolerance = file.samplerate / 4 + file.frames / 100
        if excess > tolerance or content.count(b"OggS\0\2") > 1:
            return "libsndfile reads only the first of several recordings in it"
        padded = file.subtype in BLOCK_CODECS and file.format != "MP3"
        counted = 0 < file.frames < 1 << 60 and excess > -tolerance
        return "" if counted and file.seekable() and not padded else "copy"


def _count_mp3(content: bytes, rate: int) -> int:
    """Return about how many samples an MP3 file has, by its frames' headers; up to 1% more by chance."""
    halvings = next(number for number in range(3) if rate << number in MP3_RATES)
    place = MP3_RATES.index(rate << halvings)
    beginning = (b"[\xfa\xfb]", b"[\xf2\xf3]", b"[\xe2\xe3]")[halvings]
    bit_rates = bytes(byte for byte in range(0x10, 0xF0) if byte >> 2 & 3 == place)
    frames = re.findall(b"\xff" + beginning + b"[" + re.escape(bit_rates) + b"]", content)
    return len(frames) * (576 if halvings else 1152)


def _copy(path: Path, target: Path) -> None:
    """Write a file in floating point, as long as it really is."""
    chunks = riff_chunks(path)
    left = int.from_bytes(chunks[b"fact"][:4], "little") if b"fact" in chunks else 1 << 60  # without padding
    source = os.fsencode(path)
    if chunks.get(b"data") == b"":  # as from a pipe: up to the end
        source = io.BytesIO(path.read_bytes().replace(b"data\0\0\0\0", b"data\xff\xff\xff\xff", 1))
    with _Sequential(source) as file:
        form = {"samplerate": file.samplerate, "channels": file.channels, "subtype": "FLOAT", "format": "W64"}
        with soundfile.SoundFile(target, "w", **form) as copy:
            for block in read_blocks(file):
                copy.write(block[: left - copy.frames])


def _decode(path: Path, target: Path, reason: str) -> None:
    """Write the first audio stream of a file in floating point. Raises ValueError with a reason if that fails."""
    if not shutil.which("ffmpeg"):
        raise ValueError(f"{reason}; install ffmpeg, or convert the file to FLAC")
    # Not in W64, of which libsndfile takes ffmpeg's floating point for integers.
    options = ["-map", "0:a:0", "-c:a", "pcm_f32le", "-rf64", "auto", "-f", "wav", target]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", f"file:{path}", *options]
    if subprocess.run(command, capture_output=True).returncode:
        raise ValueError(f"{reason}; ffmpeg cannot decode it either")


def riff_chunks(path: Path) -> dict[bytes, bytes]:
    """Return the chunks of a WAV file by name, of the audio its first byte."""
    chunks = {}
    with path.open("rb") as file:
        if file.read(12)[8:] != b"WAVE":
            return chunks
        while len(head := file.read(8)) == 8:
            name, size = head[:4], int.from_bytes(head[4:], "little")
            place = file.tell()
            chunks[name] = file.read(min(size, 1) if name == b"data" else size)
            file.seek(place + size + size % 2)
    return chunks


def write_wav(path: Path, waveform: np.ndarray) -> None:
    """Write a float waveform [samples] in [-1, 1] at 16 kHz as 16-bit PCM, clipped at full scale."""
    pcm = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
    with replacing(path) as temporary:
        soundfile.write(temporary, pcm, SAMPLE_RATE, format="WAV")


def read_wav(path: Path) -> np.ndarray:
    """Return the int16 [samples] of a file by `write_wav`. Raises UserError if it cannot be read."""
    with open_audio(path) as file:
        return file.read(dtype="int16")


def sample_path(folder: Path, cell: tuple[str, float, int], name: str) -> Path:
    """Return the path of a sample of the test grid, given its noise type, dB and utterance number."""
    noise, snr, utterance = cell
    return folder / noise / f"{snr:g}dB" / f"{utterance:03d}_{name}.wav"


def spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Return levels in dB, [257 bins, frames], of 32 ms Hann windows every 10 ms."""
    window = np.hanning(513)[:-1]
    padded = np.pad(waveform.astype(np.float64), (256, 256))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::160] * window
    return 20 * np.log10(np.abs(np.fft.rfft(frames)).T / window.sum() + 1e-7)


def draw_spectrograms(waveforms: Iterable[np.ndarray]) -> np.ndarray:
    """Return spectrograms side by side, [257 bins, pixels, 3], 0 … 255, on one scale; 10 ms a pixel, 8 kHz on top.

    A figure with axes takes a second to draw, too long for every epoch of a training.
    """
    from matplotlib import colormaps  # takes half a second, which most users of this file need not wait

    levels = [spectrogram(waveform) for waveform in waveforms]  # each [257, frames]
    gap = np.full((levels[0].shape[0], GAP), np.inf)
    joined = np.concatenate([part for level in levels for part in (gap, level)][1:], axis=1)
    top = max(level.max() for level in levels)
    colours = colormaps["magma"](np.clip(1 + (joined - top) / DYNAMIC_RANGE, 0, 1))[::-1, :, :3]
    return (255 * colours).astype(np.uint8)


def show_spectrogram(panel: Any, levels: np.ndarray, seconds: float, top: float) -> Any:
    """Draw levels [bins, frames] in dB on a panel of matplotlib, over the dynamic range below `top`."""
    extent, limits = (0, seconds, 0, SAMPLE_RATE / 2000), {"vmin": top - DYNAMIC_RANGE, "vmax": top}
    return panel.imshow(levels, origin="lower", aspect="auto", extent=extent, cmap="magma", **limits)
