"""Objective scores of speech, computed in a pool of processes."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pesq import PesqError, pesq
from pystoi import stoi

from config import SAMPLE_RATE
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.scoring.composite import composite, log_likelihood_ratio, segmental_snr, weighted_spectral_slope
from tools.scoring.opinions import PACKAGES, distillmos, dnsmos


@dataclass(frozen=True)
class Scores:
    """Scores of one signal, NaN if they could not be computed, and the reasons for that, `failed`, by name."""

    values: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def __or__(self, other: Scores) -> Scores:
        """Return these scores and the other's."""
        return Scores(self.values | other.values, self.failed | other.failed)


def _part(whole: str, name: str, meaning: str) -> property:
    """Return a property for one of several scores that are computed together, in the dictionary `whole`."""
    return property(lambda pair: getattr(pair, whole)[name], doc=meaning)


class Pair:
    """Clean speech and a signal to score against it, [samples] at 16 kHz; shared intermediates are cached."""

    def __init__(self, clean: np.ndarray, signal: np.ndarray) -> None:
        self.clean, self.signal = clean, signal

    @functools.cached_property
    def pesq(self) -> float:
        """Wide-band PESQ (ITU-T P.862.2), MOS-LQO from 1.04 to 4.64."""
        return self._pesq("wb")

    @property
    def pesq_nb(self) -> float:
        """Narrow-band PESQ (ITU-T P.862 and P.862.1), MOS-LQO from 1.02 to 4.55."""
        return self._pesq("nb")

    @property
    def stoi(self) -> float:
        """Short-time objective intelligibility, up to 1 (Taal et al. 2011)."""
        return self._stoi(extended=False)

    @property
    def estoi(self) -> float:
        """Extended STOI (Jensen & Taal 2016)."""
        return self._stoi(extended=True)

    @property
    def si_sdr(self) -> float:
        """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""
        clean, signal = self._doubles
        target = clean * self._speech_factor
        distortion = signal - target
        return 10 * np.log10(target @ target / (distortion @ distortion))

    @functools.cached_property
    def ssnr(self) -> float:
        """Segmental SNR in dB, from -10 to 35."""
        return segmental_snr(self.clean, self.signal)

    csig = _part("_composite", "csig", "Hu & Loizou's prediction of the mean opinion on the speech, 1 to 5.")
    cbak = _part("_composite", "cbak", "Hu & Loizou's prediction of the mean opinion on the background, 1 to 5.")
    covl = _part("_composite", "covl", "Hu & Loizou's prediction of the mean opinion on the whole, 1 to 5.")
    dnsmos_sig = _part("_dnsmos", "dnsmos_sig", "DNSMOS P.835's opinion of the speech, 1 to 5.")
    dnsmos_bak = _part("_dnsmos", "dnsmos_bak", "DNSMOS P.835's opinion of the background, 1 to 5.")
    dnsmos_ovrl = _part("_dnsmos", "dnsmos_ovrl", "DNSMOS P.835's opinion of the whole, 1 to 5.")

    @property
    def distillmos(self) -> float:
        """DistillMOS's opinion of the whole, 1 to 5."""
        return distillmos(self.signal)

    @property
    def gain_db(self) -> float:
        """Gain in dB of the clean speech in the signal: of <signal, clean> / <clean, clean>."""
        return 20 * np.log10(abs(self._speech_factor))

    @property
    def polarity(self) -> float:
        """-1 if the speech in the signal is inverted, else 1."""
        return np.sign(self._speech_factor)

    @functools.cached_property
    def _doubles(self) -> tuple[np.ndarray, np.ndarray]:
        return self.clean.astype(np.float64), self.signal.astype(np.float64)

    @functools.cached_property
    def _speech_factor(self) -> float:
        clean, signal = self._doubles
        return (signal @ clean) / (clean @ clean)

    @functools.cached_property
    def _dnsmos(self) -> dict[str, float]:
        return dnsmos(self.signal)

    @functools.cached_property
    def _composite(self) -> dict[str, float]:
        llr = log_likelihood_ratio(self.clean, self.signal)
        return composite(self.pesq, llr, weighted_spectral_slope(self.clean, self.signal), self.ssnr)

    def _pesq(self, band: str) -> float:
        try:
            return pesq(SAMPLE_RATE, self.clean, self.signal, band)
        except PesqError as error:
            reason = error.args[0] if error.args else type(error).__name__
            raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None

    def _stoi(self, extended: bool) -> float:
        with warnings.catch_warnings():
            # pystoi warns and returns 1e-5 if the reference has too little speech; that is no score.
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return stoi(self.clean, self.signal, SAMPLE_RATE, extended=extended)
            except RuntimeWarning:
                raise ValueError("too little speech in the reference") from None


# Higher is better in all of these.
SCORES = ("pesq", "pesq_nb", "stoi", "estoi", "si_sdr", "ssnr", "csig", "cbak", "covl")
OPINIONS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "distillmos")  # without a reference
ALL_SCORES = SCORES + OPINIONS
# Names for sets of scores.
SETS = {"standard": SCORES, "dnsmos": OPINIONS[:3], "all": ALL_SCORES}
VERSION = 1  # of our own computations; increase it if a value changes
# Not seen by SI-SNR and SI-SDR.
CHECKS = ("gain_db", "polarity")


def choose_scores(names: Sequence[str]) -> tuple[str, ...]:
    """Return the named scores and sets of scores, in the order of tables.

    Raises UserError for an unknown name, and for a score whose package is not installed.
    """
    unknown = [name for name in names if name not in {*SETS, *ALL_SCORES}]
    if unknown or not names:
        known = ", ".join(dict.fromkeys((*SETS, *ALL_SCORES)))
        raise UserError(f"metrics: found {unknown[0] if unknown else 'none'}, expected some of {known}")
    wanted = {score for name in names for score in SETS.get(name, (name,))}
    for score in wanted & PACKAGES.keys():
        if importlib.util.find_spec(PACKAGES[score]) is None:
            raise UserError(
                f"metrics: {score} needs the package {PACKAGES[score]}, which is not installed; "
                "pip install -e .[quality]"
            )
    return tuple(score for score in ALL_SCORES if score in wanted)


def scores_key() -> dict[str, Any]:
    """Return what kept scores depend on in addition to the audio; if it has changed, they are computed again."""
    return {
        "packages": {name: _version(name) for name in ("pesq", "pystoi", *PACKAGES.values())},
        "version": VERSION,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def score(clean: np.ndarray, signal: np.ndarray, names: Sequence[str] = SCORES + CHECKS) -> Scores:
    """Return the named scores of `signal` against `clean`, [samples] at 16 kHz; never raises for their content."""
    silent = "reference" if not np.any(clean) else "signal" if not np.any(signal) else None
    pair = Pair(clean, signal)
    values, failed = {}, {}
    for name in names:
        try:
            if silent:
                raise ValueError(f"silent {silent}")
            with np.errstate(divide="ignore"):  # an infinite score is reported below
                values[name] = float(getattr(pair, name))
            if not np.isfinite(values[name]):
                raise ValueError(f"result is {values[name]}")
        except (ValueError, FloatingPointError, ZeroDivisionError) as error:
            values[name], failed[name] = float("nan"), str(error)
    return Scores(values, failed)


class ScorePool(ProcessPool):
    """A pool of processes for scoring; use as a context manager."""

    def map(self, jobs: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str]]]) -> Iterator[Scores]:
        """Return the scores of each (clean, signal, names), in order; only a few jobs are read ahead."""
        return self.starmap(_score, jobs)

    def score(
        self, clean: np.ndarray, signal: np.ndarray, names: Sequence[str] = SCORES + CHECKS
    ) -> Future[Scores]:
        """Score a pair in the background."""
        return self.submit(_score, clean, signal, names)


def _score(_: None, clean: np.ndarray, signal: np.ndarray, names: Sequence[str]) -> Scores:
    return score(clean, signal, names)
