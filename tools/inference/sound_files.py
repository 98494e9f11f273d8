"""Enhancement of sound files in blocks, with constant memory and atomic writing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from tools.common.audio import BLOCK_CODECS, MP3, open_audio, read_blocks, riff_chunks
from tools.common.errors import UserError
from tools.common.files import replacing
from tools.inference.graph_stream import Graph
from tools.inference.signal_chain import (
    BLOCK_SECONDS,
    LIVE_BLOCK_SECONDS,
    EnhanceOptions,
    SignalChain,
    inspect,
)

if TYPE_CHECKING:
    from torch import nn

LOSSY = (".mp3", ".ogg", ".oga", ".opus")  # may be slightly longer or shorter than what was written
LOSSY_PADDING = 4096  # samples
FORMATS = {"OPUS": "OGG", "OGA": "OGG", "AIF": "AIFF", "SPH": "NIST"}  # of suffixes that are not the format's name
COPIED = (b"bext", b"iXML", b"axml", b"cue ")  # chunks of WAV: of broadcasters, and marks


def enhance_file(
    model: nn.Module | Graph,
    source: Path,
    target: Path,
    options: EnhanceOptions,
    stream: bool = False,
    progress: Callable[[float], object] | None = None,
) -> tuple[float, str]:
    """Write the enhanced recording: same rate, channels, length and tags; same format if the suffix is the same.

    stream: in blocks of 20 ms, as a live signal. progress: called with the seconds of each block.
    Return the seconds of audio, and a note for the user if the target is not encoded as the source is.
    Raises UserError if the file cannot be read or written; nothing is written then.
    """
    with _naming(source), open_audio(source) as file, replacing(target) as temporary:
        recording = inspect(read_blocks(file), file.samplerate)
        if recording.frames < file.frames and file.subtype != MP3:
            raise UserError(f"its header announces {file.frames} samples but {recording.frames} can be read")
        file.seek(0)
        chain = SignalChain(model, file.samplerate, file.channels, options, recording, stream)
        encoding, tags, note = _encoding(source, target, recording.frames)
        block = max(1, round((LIVE_BLOCK_SECONDS if stream else BLOCK_SECONDS) * file.samplerate))
        with (
            _naming(target, "; is the disk full?"),
            soundfile.SoundFile(temporary, "w", file.samplerate, file.channels, **encoding) as out,
        ):
            for name, value in tags.items():
                setattr(out, name, value)
            for noisy in read_blocks(file, block):
                out.write(_finite(chain.push(noisy)))
                if progress:
                    progress(len(noisy) / file.samplerate)
            out.write(_finite(chain.finish()))
        if encoding["format"] == "WAV":
            _copy_chunks(source, temporary)
        _check_written(temporary, target, recording.frames)
        return recording.frames / file.samplerate, note


def _check_written(temporary: Path, target: Path, frames: int) -> None:
    """Raise UserError if a file is incomplete: the sound library does not report a full disk."""
    padding = LOSSY_PADDING if target.suffix.lower() in LOSSY else 0
    with contextlib.suppress(UserError, soundfile.SoundFileError), open_audio(temporary) as file:
        if sum(map(len, read_blocks(file))) + padding >= frames:
            return
    raise UserError(f"{target}: could not be written whole, is the disk full?")


def _finite(estimate: np.ndarray) -> np.ndarray:
    if not np.isfinite(estimate).all():
        raise UserError("the network's estimate holds NaN or infinity; train or choose another checkpoint")
    return estimate


def _encoding(source: Path, target: Path, frames: int) -> tuple[dict[str, Any], dict[str, str], str]:
    """Return format and sample encoding of the target, the source's tags, and a note if the encodings differ.

    They are those of the source if the suffixes agree and libsndfile can write them. Lossy ones get at least the
    source's bit rate.
    """
    name = target.suffix[1:].upper()
    encoding = {"format": FORMATS.get(name, name), "subtype": "OPUS" if name == "OPUS" else None}
    tags, note = {}, ""
    with contextlib.suppress(soundfile.SoundFileError), soundfile.SoundFile(source) as file:
        tags = file.copy_metadata()
        if target.suffix.lower() == source.suffix.lower():
            encoding = {"format": file.format, "subtype": file.subtype, "endian": file.endian}
            encoding |= _compression(file, source, frames)
            if file.format == "WAV" and file.subtype in BLOCK_CODECS:
                encoding["subtype"], note = "PCM_16", f" (16-bit PCM; {file.subtype} would change the length)"
    form = [encoding.get(key) for key in ("format", "subtype", "endian")]
    if not soundfile.check_format(*form):
        raise UserError(f"{'/'.join(filter(None, form))} cannot be written; name a .wav or .flac with -o")
    return encoding, tags, note


def _compression(file: soundfile.SoundFile, path: Path, frames: int) -> dict[str, Any]:
    """Return settings that give a lossy output at least the bit rate of its source."""
    kbps = path.stat().st_size * 8e-3 * file.samplerate / frames
    if file.subtype == "VORBIS":
        return {"compression_level": 0.2}  # 60 kbit/s of speech at 16 kHz, 130 at 48 kHz
    if file.subtype == "OPUS":
        return {"compression_level": max(0.0, 1 - 1.25 * kbps / (256 * file.channels))}  # VBR
    if file.format == "MP3":
        highest = 320 if file.samplerate >= 32_000 else 160 if file.samplerate >= 16_000 else 64
        return {"compression_level": max(0.0, 1 - kbps / highest), "bitrate_mode": "CONSTANT"}
    return {}


def _copy_chunks(source: Path, target: Path) -> None:
    """Append the chunks of broadcasters to a WAV file, among them the time code."""
    kept = {name: data for name, data in riff_chunks(source).items() if name in COPIED}
    with target.open("r+b") as file:
        file.seek(0, 2)
        for name, data in kept.items():
            file.write(name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(size.to_bytes(4, "little"))


@contextlib.contextmanager
def _naming(path: Path, advice: str = "") -> Iterator[None]:
    """Put the file's name before errors of the sound library, and of the functions here."""
    try:
        yield
    except (UserError, soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise UserError(reason if reason.startswith(str(path)) else f"{path}: {reason}{advice}") from None
