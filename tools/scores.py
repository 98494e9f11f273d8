"""Objective scores of speech, computed in a pool of processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from pesq import PesqError, pesq
from pystoi import stoi

from tools.processes import ProcessPool

SAMPLE_RATE = 16000  # Hz


@dataclass(frozen=True)
class Scores:
    """Scores of one signal; one that could not be computed is NaN, and `failed` says why, by its name."""

    values: dict[str, float]
    failed: dict[str, str] = field(default_factory=dict)


def pesq_wideband(clean: np.ndarray, signal: np.ndarray) -> float:
    """Wide-band PESQ (ITU-T P.862.2), MOS-LQO from 1.04 to 4.64."""
    try:
        return float(pesq(SAMPLE_RATE, clean, signal, "wb"))
    except PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


def stoi_score(clean: np.ndarray, signal: np.ndarray, extended: bool = False) -> float:
    """Short-time objective intelligibility, up to 1 (Taal et al. 2011; extended: Jensen & Taal 2016)."""
    with warnings.catch_warnings():
        # pystoi warns and returns 1e-5 where too little of the reference is speech; that is no score.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(clean, signal, SAMPLE_RATE, extended=extended))
        except RuntimeWarning:
            raise ValueError("too little speech in the reference") from None


def estoi_score(clean: np.ndarray, signal: np.ndarray) -> float:
    """Extended STOI."""
    return stoi_score(clean, signal, extended=True)


def si_sdr(clean: np.ndarray, signal: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""
    clean, signal = clean.astype(np.float64), signal.astype(np.float64)
    target = clean * (signal @ clean / (clean @ clean))
    distortion = signal - target
    return float(10 * np.log10(target @ target / (distortion @ distortion)))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pesq": pesq_wideband,
    "stoi": stoi_score,
    "estoi": estoi_score,
    "si_sdr": si_sdr,
}


def score(clean: np.ndarray, signal: np.ndarray, names: tuple[str, ...] = tuple(SCORES)) -> Scores:
    """The named scores of `signal` against `clean`, [samples] at 16 kHz; no content makes it raise."""
    silent = "reference" if not np.any(clean) else "signal" if not np.any(signal) else None
    values, failed = {}, {}
    for name in names:
        try:
            if silent:
                raise ValueError(f"silent {silent}")
            values[name] = SCORES[name](clean, signal)
            if not np.isfinite(values[name]):
                raise ValueError(f"result is {values[name]}")
        except (ValueError, FloatingPointError, ZeroDivisionError) as error:
            values[name], failed[name] = float("nan"), str(error)
    return Scores(values, failed)


class ScorePool(ProcessPool):
    """Processes that score; use as a context manager."""

    def map(
        self, pairs: Iterable[tuple[np.ndarray, np.ndarray]], names: tuple[str, ...] = tuple(SCORES)
    ) -> Iterator[Scores]:
        """Scores of each (clean, signal), in order; `pairs` is read only a little ahead, so memory stays flat."""
        return self.starmap(_score, ((clean, signal, names) for clean, signal in pairs))


def _score(_: None, clean: np.ndarray, signal: np.ndarray, names: tuple[str, ...]) -> Scores:
    return score(clean, signal, names)
