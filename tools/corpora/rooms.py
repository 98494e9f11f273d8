"""Reverberation: impulse responses from a folder, or of simulated rooms."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from scipy.signal import fftconvolve

from config import SAMPLE_RATE
from tools.common.audio_files import read
from tools.common.errors import UserError
from tools.common.seeding import generator
from tools.corpora.recordings import Recording

SIMULATED = "simulated"
RT60_S = (0.15, 0.7)
SIZE_M = ((3.0, 9.0), (3.0, 7.0), (2.4, 3.5))
FROM_WALL_M = 0.4
DISTANCE_M = (0.5, 2.5)


class Rooms(Protocol):
    """A source of impulse responses."""

    def draw(self, rng: np.random.Generator, split: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Return an impulse response, `[taps]` at 16 kHz, for an item of a split, and its record."""


class RecordedRooms:
    """Impulse responses from files; if there are enough, each file is used in one split only."""

    def __init__(self, recordings: Sequence[Recording], splits: Sequence[str], seed: int) -> None:
        order = [recordings[n] for n in generator(seed, "rooms").permutation(len(recordings))]
        self._files = dict.fromkeys(splits, order)
        if len(order) > len(splits):
            share, others = max(1, len(order) // 10), splits[1:]
            self._files = {split: order[n * share : (n + 1) * share] for n, split in enumerate(others)}
            self._files[splits[0]] = order[len(others) * share :]

    def draw(self, rng: np.random.Generator, split: str) -> tuple[np.ndarray, dict[str, Any]]:
        """See Rooms."""
        files = self._files[split]
        recording = files[rng.integers(len(files))]
        return read(recording.path), {"impulse_response": str(recording.path)}


class SimulatedRooms:
    """Shoebox rooms by pyroomacoustics's image method (Allen & Berkley 1979). Raises UserError without it."""

    def __init__(self) -> None:
        try:
            import pyroomacoustics  # noqa: F401
        except ImportError:
            raise UserError(
                "reverb: found no pyroomacoustics, which simulates rooms; pip install pyroomacoustics, or give a "
                "folder of impulse responses"
            ) from None

    def draw(self, rng: np.random.Generator, split: str) -> tuple[np.ndarray, dict[str, Any]]:
        """See Rooms."""
        import pyroomacoustics

        pyroomacoustics.constants.set("num_threads", 1)  # sums in one order, whatever the machine
        size = np.array([rng.uniform(*span) for span in SIZE_M])
        rt60 = rng.uniform(*RT60_S)
        microphone = rng.uniform(FROM_WALL_M, size - FROM_WALL_M)
        while True:
            talker = rng.uniform(FROM_WALL_M, size - FROM_WALL_M)
            if DISTANCE_M[0] <= np.linalg.norm(talker - microphone) <= DISTANCE_M[1]:
                break
        # Large rooms cannot have the shortest times: Sabine's formula would give an absorption above 1.
        volume, surface = size.prod(), 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
        rt60 = round(max(rt60, 0.161 * volume / (0.9 * surface)), 3)
        absorption, order = pyroomacoustics.inverse_sabine(rt60, size)
        room = pyroomacoustics.ShoeBox(
            size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=min(order, 30)
        )
        room.add_source(talker)
        room.add_microphone(microphone)
        room.compute_rir()
        description = {
            "room_m": size.round(2).tolist(),
            "rt60_s": rt60,
            "distance_m": round(float(np.linalg.norm(talker - microphone)), 2),
        }
        return np.asarray(room.rir[0][0]), description


def reverberate(speech: np.ndarray, impulse_response: np.ndarray, early_ms: float = np.inf) -> np.ndarray:
    """Return reverberant speech `[samples]` of the same length; the direct sound is not delayed.

    early_ms: milliseconds after the direct sound at which the impulse response is cut off.
    Raises ValueError if the impulse response is silent.
    """
    direct = int(np.argmax(np.abs(impulse_response)))
    if impulse_response[direct] == 0:
        raise ValueError("impulse response is silent")
    end = None if np.isinf(early_ms) else direct + 1 + round(early_ms * SAMPLE_RATE / 1000)
    return fftconvolve(speech, impulse_response[direct:end] / impulse_response[direct])[: speech.size]
