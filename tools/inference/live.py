"""Live signals: raw PCM through pipes, and the microphone."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from config import SAMPLE_RATE
from tools.common.errors import UserError
from tools.inference.graph_stream import Graph
from tools.inference.signal_chain import LIVE_BLOCK_SECONDS, EnhanceOptions, SignalChain

if TYPE_CHECKING:
    from torch import nn

ENCODINGS = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}
MOST_WAITING = 3  # blocks from the microphone
FILE_HEADERS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd")


def enhance_pipe(
    model: nn.Module | Graph,
    source: BinaryIO,
    target: BinaryIO,
    rate: int,
    channels: int,
    encoding: str,
    options: EnhanceOptions,
) -> None:
    """Enhance raw interleaved PCM from source to target in the same encoding, without delaying what is ready.

    Raises UserError for NaN and infinity, for the header of a sound file, and for an incomplete last sample.
    """
    dtype, full_scale = ENCODINGS[encoding]
    chain = SignalChain(model, rate, channels, options, stream=True)
    frame_bytes = np.dtype(dtype).itemsize * channels
    block_bytes = max(1, round(LIVE_BLOCK_SECONDS * rate)) * frame_bytes
    rest = b""

    def write(estimate: np.ndarray) -> None:
        pcm = estimate * full_scale
        if full_scale > 1:
            pcm = np.clip(np.round(pcm), -full_scale, full_scale - 1)
        target.write(pcm.astype(dtype).tobytes())
        target.flush()

    while data := source.read1(block_bytes):
        data = rest + data
        if chain.taken == 0 and data.startswith(FILE_HEADERS):
            raise UserError(
                "stdin: found the header of a sound file, expected raw PCM; name the file instead of -, or send "
                "raw samples (ffmpeg -f s16le, arecord -t raw)"
            )
        whole = len(data) // frame_bytes * frame_bytes
        rest = data[whole:]
        noisy = np.frombuffer(data[:whole], dtype).reshape(-1, channels)
        write(chain.push(noisy.astype(np.float32) / np.float32(full_scale)))
    write(chain.finish())
    if rest:
        raise UserError(
            f"stdin: ended with {len(rest)} bytes of a sample of {frame_bytes}; check --channels and --encoding"
        )


def enhance_microphone(
    model: nn.Module | Graph, input_device: str | None, output_device: str | None, options: EnhanceOptions
) -> None:
    """Enhance from microphone to loudspeaker until Ctrl-C. Raises UserError without sounddevice or the devices.

    Blocks that wait for more than 60 ms, as after a pause of the computer, are dropped, so that no delay remains.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the PortAudio library is missing
        raise UserError(
            f"--live needs sounddevice ({error}); `pip install -r requirements-live.txt`, "
            "on Linux also the package libportaudio2"
        ) from None
    block = round(LIVE_BLOCK_SECONDS * SAMPLE_RATE)
    chain = SignalChain(model, SAMPLE_RATE, 1, options, stream=True)
    chain.network.push(np.zeros((1, SAMPLE_RATE), np.float32))  # the first hops take longest
    chain.network.reset()
    # The loudspeaker starts with silence for the time that the network needs before its first block.
    ready = np.zeros((chain.network.latency + block, 1), np.float32)
    arrived: queue.Queue[np.ndarray] = queue.Queue()
    dropped = 0
    names = (input_device, output_device)
    devices = [int(name) if name is not None and name.isdecimal() else name for name in names]
    settings = {"samplerate": SAMPLE_RATE, "blocksize": block, "channels": 1, "dtype": "float32"}

    def collect(noisy: np.ndarray, frames: int, time: Any, status: Any) -> None:
        arrived.put(noisy.copy())

    try:
        with (
            sounddevice.InputStream(device=devices[0], callback=collect, **settings),
            sounddevice.OutputStream(device=devices[1], **settings) as loudspeaker,
        ):
            while True:
                loudspeaker.write(ready)
                noisy = arrived.get()
                while arrived.qsize() > MOST_WAITING:
                    noisy = arrived.get()
                    dropped += 1
                ready = np.ascontiguousarray(chain.push(noisy))
    except KeyboardInterrupt:
        print(f"{dropped * LIVE_BLOCK_SECONDS:.2f} s came too late and were dropped")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(f"microphone or loudspeaker: {error}; `python -m sounddevice` lists the devices") from None
