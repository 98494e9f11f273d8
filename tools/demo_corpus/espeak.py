"""Speech from eSpeak NG, through ctypes and the library in the `espeakng-loader` wheel."""

import contextlib
import ctypes
from collections.abc import Iterator

import numpy as np
from scipy.signal import resample_poly

from config import SAMPLE_RATE
from tools.common.errors import UserError

ESPEAK_SAMPLE_RATE = 22_050
VOLUME = 40  # percent; at 100 the louder variants clip inside the library
SILENCE_DB = -50.0  # below the peak
RANDOM_SEED = 1

# Names and values from speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_RATE, _VOLUME, _PITCH = 1, 2, 3
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def synthesise(text: str, voice: str = "en-us", variant: str = "", pitch: int = 50, rate: int = 170) -> np.ndarray:
    """Return speech without leading and trailing silence, float32 `[samples]` in [-1, 1] at 16 kHz.

    The same arguments always give the same samples.

    Args:
        text: What to say.
        voice: eSpeak's language and accent, such as en-us or en-gb-scotland.
        variant: A speaker from eSpeak's `voices/!v`, such as f2; empty for the voice's own.
        pitch: 0 to 99; 50 is the variant's own.
        rate: Words a minute, 80 to 450.

    Raises UserError if eSpeak NG cannot be loaded.
    """
    with _fresh_library() as library:
        library.espeak_SetVoiceByName((f"{voice}+{variant}" if variant else voice).encode())
        for parameter, value in ((_RATE, rate), (_VOLUME, VOLUME), (_PITCH, pitch)):
            library.espeak_SetParameter(parameter, value, 0)
        samples = _speak(library, text)

    speech = resample_poly(samples / np.float32(32768), SAMPLE_RATE // 50, ESPEAK_SAMPLE_RATE // 50)
    loud = np.flatnonzero(np.abs(speech) > np.max(np.abs(speech)) * 10 ** (SILENCE_DB / 20))
    return speech[loud[0] : loud[-1] + 1].astype(np.float32)


@contextlib.contextmanager
def _fresh_library() -> Iterator[ctypes.CDLL]:
    """Yield the initialised library, unloaded again at the end.

    eSpeak NG keeps the phase of its pitch flutter and the state of its noise in static variables that no call
    resets: the library is loaded again (2 ms) so that an utterance does not depend on earlier ones.
    """
    try:
        import espeakng_loader

        path, data_path = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        system = ctypes.CDLL(None)
        library = ctypes.CDLL(path)
    except (ImportError, OSError, RuntimeError, TypeError) as error:  # TypeError: CDLL(None) on Windows
        raise UserError(
            f"eSpeak NG cannot be loaded ({error}); it needs Linux or macOS and `pip install espeakng-loader`"
        ) from error

    try:
        encoded = data_path.encode()
        rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, encoded, _INITIALIZE_DONT_EXIT)
        if rate != ESPEAK_SAMPLE_RATE:
            raise UserError(f"eSpeak NG does not start with the data in {data_path}; reinstall espeakng-loader")
        library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))  # else seeded from the clock
        system.srand(RANDOM_SEED)  # the breath of some variants draws from the C library, which stays loaded
        try:
            yield library
        finally:
            library.espeak_Terminate()
    finally:
        system.dlclose(ctypes.c_void_p(library._handle))


def _speak(library: ctypes.CDLL, text: str) -> np.ndarray:
    """Return all samples of the text, int16 `[samples]` at eSpeak's rate."""
    pieces = [np.zeros(0, np.int16)]

    @_SynthCallback
    def collect(samples, count, events):
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(collect)
    encoded = text.encode()
    size = ctypes.c_size_t(len(encoded) + 1)
    library.espeak_Synth(encoded, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
    return np.concatenate(pieces)
