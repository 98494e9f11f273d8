"""Tests of differences and of equivalence, over utterances, and over seeds and utterances."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 5000
LEVEL = 0.05  # significance level of corrected p-values


@dataclass(frozen=True)
class Difference:
    """Mean difference of paired scores, its 95% confidence interval and two-sided p-value.

    half_90: half of the 90% interval, for two one-sided tests of equivalence at 5% (Schuirmann 1987).
    independent: number of utterances with different clean speech.
    """

    mean: float
    low: float
    high: float
    p: float
    half_90: float
    utterances: int
    independent: int

    def is_within(self, bound: float) -> bool:
        """Return whether the absolute difference is smaller than the bound, at the 5% level."""
        return abs(self.mean) + self.half_90 < bound


def paired_difference(differences: np.ndarray, groups: np.ndarray, seed: int = 0) -> Difference:
    """Return the bootstrap-t of the mean of paired differences (Efron & Tibshirani 1993, chapters 12 and 16).

    differences: one a noisy utterance, [N]. groups: [N], equal for those with the same clean speech; as these are
    not independent, whole groups are drawn. Interval and p-value come from the same resamples of |t|, so that
    they never contradict each other. With one group, the interval is infinite.
    """
    index, sizes = _number(groups)
    sums = np.bincount(index, differences)
    mean, count = float(sums.sum() / sizes.sum()), len(sizes)

    def result(half: float, p: float, half_90: float) -> Difference:
        return Difference(mean, mean - half, mean + half, float(p), float(half_90), len(differences), count)

    if np.abs(differences).max() < np.finfo(float).tiny:
        return result(0.0, 1.0, 0.0)
    if count < 2:
        return result(np.inf, 1.0, np.inf)
    error = _mean_and_error(sums[None], sizes[None])[1][0]
    if error < 1e-9 * abs(mean):  # all groups equal: only a resample of a single group could differ
        return result(0.0, max(count ** (1.0 - count), 1 / (1 + RESAMPLES)), 0.0)
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    centres, errors = _mean_and_error(sums[draws], sizes[draws])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(centres - mean) / errors
        observed = abs(mean) / error
    t[np.isnan(t)] = np.inf  # a resample of a single group has no spread
    half, half_90 = (float(np.quantile(t, q, method="higher") * error) for q in (1 - LEVEL, 1 - 2 * LEVEL))
    return result(half, (1 + np.count_nonzero(t >= observed)) / (1 + RESAMPLES), half_90)


def seed_difference(signal: np.ndarray, baseline: np.ndarray, groups: np.ndarray) -> Difference:
    """Return the difference of two losses, each trained with two or more seeds, over seeds and utterances.

    signal, baseline: scores [seeds, N] of the same N noisy utterances; groups [N] as for paired_difference. The
    interval is Student's, with the variance and degrees of freedom of seed_variance.
    """
    index, sizes = _number(groups)
    sums = [np.array([np.bincount(index, row) for row in scores]) for scores in (signal, baseline)]
    mean = float((sums[0].mean(0) - sums[1].mean(0)).sum() / sizes.sum())
    variance, freedom = seed_variance(sums, sizes) if len(sizes) > 1 else (math.inf, 1.0)
    error = math.sqrt(variance)
    half, half_90 = (float(stats.t.ppf(1 - tail, freedom) * error) for tail in (LEVEL / 2, LEVEL))
    p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Difference(mean, mean - half, mean + half, p, half_90, signal.shape[1], len(sizes))


def seed_variance(sums: Sequence[np.ndarray], sizes: np.ndarray) -> tuple[float, float]:
    """Return variance and degrees of freedom of the difference of two losses' means over seeds and utterances.

    sums: of the scores of each group of utterances, [seeds, groups], for each loss; sizes: [groups]. Seeds and
    utterances are random effects: the variance is that between the seeds of each loss, plus that between
    utterances, minus the interaction, which both contain; degrees of freedom are Satterthwaite's. A hierarchical
    bootstrap (seeds, then utterances) gives the same variance without its surplus of interaction (McCullagh 2000,
    "Resampling and exchangeable arrays"), as a test checks.
    """
    count, total = len(sizes), sizes.sum()
    difference = sums[0].mean(0) - sums[1].mean(0)  # [groups]
    parts = [(_mean_and_error(difference[None], sizes[None])[1][0] ** 2, count - 1)]  # variance, its freedom
    interaction = 0.0
    for of_seed in sums:
        seeds, means = len(of_seed), of_seed.sum(1) / total
        parts.append((means.var(ddof=1) / seeds, seeds - 1))
        rest = of_seed - of_seed.mean(0) - np.outer(means - means.mean(), sizes)
        interaction += (rest**2).sum() / ((seeds - 1) * (count - 1)) * count / total**2 / seeds
    between_utterances, *between_seeds = (variance for variance, _ in parts)
    variance = max(between_utterances + sum(between_seeds) - interaction, between_utterances, sum(between_seeds))
    freedom = variance**2 / sum(part**2 / own for part, own in parts) if variance else 1.0
    return float(variance), float(freedom)


def confidence_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the mean of independent values, by Student's t; for one value, the value."""
    centre = float(np.mean(values))
    if len(values) < 2:
        return centre, centre
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return centre - float(half), centre + float(half)


def correct(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for multiple comparisons (false discovery rate, Benjamini & Hochberg 1995)."""
    return stats.false_discovery_control(p_values) if len(p_values) else np.array([])


def _number(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of each item's group, [N], and the sizes of the groups."""
    _, index = np.unique(groups, return_inverse=True)
    return index, np.bincount(index).astype(float)


def _mean_and_error(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean of all values and its standard error, [...], given sums and sizes of groups, [..., groups]."""
    count = sums.shape[-1]
    mean = sums.sum(-1) / sizes.sum(-1)
    residual = sums - mean[..., None] * sizes
    return mean, np.sqrt((residual**2).sum(-1) * count / (count - 1)) / sizes.sum(-1)
