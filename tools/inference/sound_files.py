"""Enhancement of sound files in blocks, with constant memory and atomic writing."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import soundfile
from torch import nn

from tools.common.audio import MP3, open_audio, read_blocks
from tools.common.errors import UserError
from tools.common.files import replacing
from tools.inference.signal_chain import (
    BLOCK_SECONDS,
    LIVE_BLOCK_SECONDS,
    EnhanceOptions,
    SignalChain,
    inspect,
)

LOSSY = (".mp3", ".ogg", ".oga", ".opus")  # may be slightly longer or shorter than what was written
LOSSY_PADDING = 4096  # samples
FORMATS = {"OPUS": "OGG", "OGA": "OGG", "AIF": "AIFF", "SPH": "NIST"}  # of suffixes that are not the format's name


def enhance_file(
    model: nn.Module,
    source: Path,
    target: Path,
    options: EnhanceOptions,
    stream: bool = False,
    progress: Callable[[float], object] | None = None,
) -> float:
    """Write the enhanced recording: same rate, channels, length and tags; same format if the suffix is the same.

    stream: in blocks of 20 ms, as a live signal. progress: called with the seconds of each block.
    Return the seconds of audio.
    Raises UserError if the file cannot be read or written; nothing is written then.
    """
    with _naming(source), open_audio(source) as file, replacing(target) as temporary:
        recording = inspect(read_blocks(file), file.samplerate)
        if recording.frames < file.frames and file.subtype != MP3:
            raise UserError(f"its header announces {file.frames} samples but {recording.frames} can be read")
        file.seek(0)
        chain = SignalChain(model, file.samplerate, file.channels, options, recording, stream)
        encoding, tags = _encoding(source, target)
        block = max(1, round((LIVE_BLOCK_SECONDS if stream else BLOCK_SECONDS) * file.samplerate))
        with (
            _naming(target, "; is the disk full?"),
            soundfile.SoundFile(temporary, "w", file.samplerate, file.channels, **encoding) as out,
        ):
            for name, value in tags.items():
                setattr(out, name, value)
            for noisy in read_blocks(file, block):
                out.write(chain.push(noisy))
                if progress:
                    progress(len(noisy) / file.samplerate)
            out.write(chain.finish())
        _check_written(temporary, target, recording.frames)
        return recording.frames / file.samplerate


def _check_written(temporary: Path, target: Path, frames: int) -> None:
    """Raise UserError if a file is incomplete: the sound library does not report a full disk."""
    padding = LOSSY_PADDING if target.suffix.lower() in LOSSY else 0
    with contextlib.suppress(UserError, soundfile.SoundFileError), open_audio(temporary) as file:
        if sum(map(len, read_blocks(file))) + padding >= frames:
            return
    raise UserError(f"{target}: could not be written whole, is the disk full?")


def _encoding(source: Path, target: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return format and sample encoding of the target, and the source's tags.

    The format is that of the source if the suffixes agree. Raises UserError if libsndfile cannot write it.
    """
    name = target.suffix[1:].upper()
    encoding = {"format": FORMATS.get(name, name), "subtype": "OPUS" if name == "OPUS" else None}
    tags = {}
    with contextlib.suppress(soundfile.SoundFileError), soundfile.SoundFile(source) as file:
        tags = file.copy_metadata()
        if target.suffix.lower() == source.suffix.lower():
            encoding = {"format": file.format, "subtype": file.subtype, "endian": file.endian}
    form = [encoding.get(key) for key in ("format", "subtype", "endian")]
    if not soundfile.check_format(*form):
        raise UserError(f"{'/'.join(filter(None, form))} cannot be written; name a .wav or .flac with -o")
    return encoding, tags


@contextlib.contextmanager
def _naming(path: Path, advice: str = "") -> Iterator[None]:
    """Put the file's name before errors of the sound library, and of the functions here."""
    try:
        yield
    except (UserError, soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise UserError(reason if reason.startswith(str(path)) else f"{path}: {reason}{advice}") from None
