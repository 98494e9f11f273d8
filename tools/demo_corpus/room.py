"""Recording of dry speech in a simulated room."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from dataloader.augmentation import draw_tail

FIRST_REFLECTION_SECONDS = 0.002


@dataclass(frozen=True)
class Room:
    """A furnished room with the talker close to the microphone."""

    rt60_s: float  # time in which the reverberation falls by 60 dB
    direct_to_reverberant_db: float
    speech_to_floor_db: float  # against the microphone's own noise


def draw_room(rng: np.random.Generator) -> Room:
    return Room(
        rt60_s=round(rng.uniform(0.15, 0.35), 3),
        direct_to_reverberant_db=round(rng.uniform(7, 13), 2),
        speech_to_floor_db=round(rng.uniform(45, 55), 2),
    )


def record(speech: np.ndarray, room: Room, rng: np.random.Generator) -> np.ndarray:
    """Return the speech with reverberation and the microphone's white noise, float64 `[samples]`.

    Pauses of synthetic speech are digital silence, in which log-spectral losses and PESQ count the slightest
    residue as a large error. With this step, PESQ of noisy speech is similar to that of real recordings.
    """
    tail = draw_tail(rng, room.rt60_s, FIRST_REFLECTION_SECONDS, room.direct_to_reverberant_db)
    recording = speech + fftconvolve(speech, tail)[: speech.size]
    floor = np.sqrt(np.mean(recording**2)) * 10 ** (-room.speech_to_floor_db / 20)
    return recording + floor * rng.standard_normal(speech.size)
