"""Is a difference more than chance? Paired bootstrap over utterances, corrected for the number of comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 5000
LEVEL = 0.05  # a corrected p-value below this is called a difference


@dataclass(frozen=True)
class Difference:
    """Mean difference of paired scores, its 95% confidence interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float
    utterances: int


def paired_difference(differences: np.ndarray, groups: np.ndarray, seed: int = 0) -> Difference:
    """Bootstrap-t of the mean of paired differences (Efron & Tibshirani 1993, chapters 12 and 16).

    differences: one a noisy utterance, [N]. groups: [N], equal for those that share their clean speech; they are
    not independent, so whole groups are drawn. Interval and p-value come from the same resamples of |t|, so that
    they never disagree; with one group there is no telling, and the interval is infinite.
    """
    _, index = np.unique(groups, return_inverse=True)
    sizes = np.bincount(index).astype(float)  # [groups]
    sums = np.bincount(index, differences)
    mean = sums.sum() / sizes.sum()
    if not np.any(differences):
        return Difference(0.0, 0.0, 0.0, 1.0, len(differences))
    count = len(sizes)
    if count < 2:
        return Difference(float(mean), -np.inf, np.inf, 1.0, len(differences))
    error = _mean_and_error(sums[None], sizes[None])[1][0]
    if error < 1e-9 * abs(mean):  # every group alike: only a resample of one group alone could differ
        p = max(count ** (1.0 - count), 1 / (1 + RESAMPLES))
        return Difference(float(mean), float(mean), float(mean), p, len(differences))
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    centres, errors = _mean_and_error(sums[draws], sizes[draws])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(centres - mean) / errors
        observed = abs(mean) / error
    t[np.isnan(t)] = np.inf  # a resample of one group alone says nothing of the spread
    half = np.quantile(t, 1 - LEVEL, method="higher") * error
    p = (1 + np.count_nonzero(t >= observed)) / (1 + RESAMPLES)
    return Difference(float(mean), float(mean - half), float(mean + half), float(p), len(differences))


def confidence_interval(values: Sequence[float]) -> tuple[float, float]:
    """95%, of the mean of independent values, by Student's t; the mean itself where there is only one value."""
    centre = float(np.mean(values))
    if len(values) < 2:
        return centre, centre
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return centre - float(half), centre + float(half)


def correct(p_values: Sequence[float]) -> np.ndarray:
    """P-values corrected for their number (Benjamini & Hochberg 1995: the false discovery rate)."""
    return stats.false_discovery_control(p_values) if len(p_values) else np.array([])


def _mean_and_error(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of all values and its standard error from the sums and sizes of groups, [..., groups] to [...]."""
    count = sums.shape[-1]
    mean = sums.sum(-1) / sizes.sum(-1)
    residual = sums - mean[..., None] * sizes
    return mean, np.sqrt((residual**2).sum(-1) * count / (count - 1)) / sizes.sum(-1)
