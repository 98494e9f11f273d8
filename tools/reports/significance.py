"""Tests of differences and of equivalence over what was drawn: talkers, noise recordings and seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 5000
LEVEL = 0.05  # significance level of corrected p-values


@dataclass(frozen=True)
class Difference:
    """Mean difference of paired scores, its 95% confidence interval and two-sided p-value.

    half_90: half of the 90% interval, for two one-sided tests of equivalence at 5% (Schuirmann 1987).
    """

    mean: float
    low: float
    high: float
    p: float
    half_90: float

    def is_within(self, bound: float) -> bool:
        """Return whether the absolute difference is smaller than the bound, at the 5% level."""
        return abs(self.mean) + self.half_90 < bound


def paired_difference(
    differences: np.ndarray, talkers: np.ndarray, noises: np.ndarray | None = None, seed: int = 0
) -> Difference:
    """Return the bootstrap-t of the mean of paired differences (Efron & Tibshirani 1993, chapters 12 and 16).

    differences: [N]. talkers, noises: [N], equal for values that are not independent, as they have the same talker
    (or clean speech), or the same noise recording; both are drawn independently of each other (the pigeonhole
    bootstrap of Owen 2007). Interval and p-value come from the same resamples of |t|, so that they never
    contradict each other. With one talker, the interval is infinite.
    """
    sums, counts = _tabulate(differences, talkers, noises)
    mean, error = (float(value[0]) for value in _mean_and_error(sums, counts))

    def result(half: float, p: float, half_90: float) -> Difference:
        return Difference(mean, mean - half, mean + half, float(p), float(half_90))

    count = len(sums)
    if np.abs(differences).max() < np.finfo(float).tiny:
        return result(0.0, 1.0, 0.0)
    if count < 2:
        return result(np.inf, 1.0, np.inf)
    if error < 1e-9 * abs(mean):  # all talkers equal: only a resample of a single talker could differ
        return result(0.0, max(count ** (1.0 - count), 1 / (1 + RESAMPLES)), 0.0)
    rng = np.random.default_rng(seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        centres, errors = _mean_and_error(sums, counts, *(_draw(rng, size) for size in sums.shape))
        t = np.abs(centres - mean) / errors
    t[np.isnan(t)] = np.inf  # a resample of a single talker has no spread
    half, half_90 = (float(np.quantile(t, q, method="higher") * error) for q in (1 - LEVEL, 1 - 2 * LEVEL))
    return result(half, (1 + np.count_nonzero(t >= abs(mean) / error)) / (1 + RESAMPLES), half_90)


def seed_difference(own: np.ndarray, other: np.ndarray, *drawn: np.ndarray | None, **pooled: Any) -> Difference:
    """Return the difference of two losses, each trained with two or more seeds, over seeds, talkers and noises.

    own, other: scores [seeds, N]; the other arguments are those of seed_variance. The interval is Student's.
    """
    mean = float((own.mean(0) - other.mean(0)).mean())
    variance, freedom = seed_variance(own, other, *drawn, **pooled)
    error = math.sqrt(variance)
    half, half_90 = (float(stats.t.ppf(1 - tail, freedom) * error) for tail in (LEVEL / 2, LEVEL))
    p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Difference(mean, mean - half, mean + half, p, half_90)


def seed_variance(
    own: np.ndarray,
    other: np.ndarray,
    talkers: np.ndarray,
    noises: np.ndarray | None = None,
    pooled: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return variance and degrees of freedom of the difference of two losses' means.

    own, other: scores [seeds, N]. talkers, noises: as for paired_difference. pooled: variance between the means of
    seeds and its degrees of freedom, if more losses than these two tell it. Seeds, talkers and noises are random
    effects: the variance is that between seeds, plus that over talkers and noises, minus their interaction, which
    both contain (McCullagh 2000, "Resampling and exchangeable arrays"); degrees of freedom are Satterthwaite's.
    """
    parts = [_speech_variance(own.mean(0) - other.mean(0), talkers, noises)]
    interaction = 0.0
    for scores in (own, other):
        seeds, means = len(scores), scores.mean(1)
        variance, freedom = pooled or (means.var(ddof=1), seeds - 1)
        parts.append((variance / seeds, freedom))
        for rest in scores - scores.mean(0) - (means - means.mean())[:, None]:
            interaction += _speech_variance(rest, talkers, noises)[0] / seeds / (seeds - 1)
    if pooled:
        parts[1:] = [(parts[1][0] + parts[2][0], pooled[1])]
    of_speech, *of_seeds = (variance for variance, _ in parts)
    variance = max(of_speech + sum(of_seeds) - interaction, of_speech, sum(of_seeds))
    freedom = variance**2 / sum(part**2 / own for part, own in parts) if 0 < variance < math.inf else 1.0
    return float(variance), float(freedom)


def pool_seeds(means: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return the variance between seeds and its degrees of freedom, pooled over losses.

    means: of the seeds, for each loss. None if the losses differ in their variance (Bartlett's test at 5%), or if
    none has several seeds.
    """
    several = [values for values in means if len(values) > 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        if not several or (len(several) > 1 and not stats.bartlett(*several).pvalue >= LEVEL):
            return None
    freedom = sum(len(values) - 1 for values in several)
    return sum(np.var(values) * len(values) for values in several) / freedom, freedom


def confidence_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the mean of independent values, by Student's t; for one value, the value."""
    centre = float(np.mean(values))
    if len(values) < 2:
        return centre, centre
    half = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * stats.sem(values)
    return centre - float(half), centre + float(half)


def correct(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for multiple comparisons (false discovery rate, Benjamini & Hochberg 1995)."""
    return stats.false_discovery_control(p_values) if len(p_values) else np.array([])


def _tabulate(values: np.ndarray, talkers: np.ndarray, noises: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return sum and number of the values of each talker and noise, [talkers, noises]."""
    noises = np.zeros(len(values)) if noises is None else noises
    ways = [np.unique(way, return_inverse=True)[1] for way in (talkers, noises)]
    sums, counts = np.zeros((2, ways[0].max() + 1, ways[1].max() + 1))
    np.add.at(sums, tuple(ways), values)
    np.add.at(counts, tuple(ways), 1)
    return sums, counts


def _mean_and_error(
    sums: np.ndarray, counts: np.ndarray, talkers: np.ndarray | None = None, noises: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean of all values and its standard error, [draws].

    sums, counts: from `_tabulate`. talkers, noises: how often each is drawn, [draws, talkers] and [draws, noises];
    by default once. The variance is that between talkers, plus that between noises, minus that between their
    pairs, which both contain (Cameron, Gelbach & Miller 2011); with one noise, that between talkers.
    """
    talkers = np.ones((1, sums.shape[0])) if talkers is None else talkers
    noises = np.ones((1, sums.shape[1])) if noises is None else noises

    def total(table: np.ndarray) -> np.ndarray:
        return ((talkers @ table) * noises).sum(-1)

    mean = total(sums) / total(counts)
    by_talker = noises @ sums.T - mean[:, None] * (noises @ counts.T)  # [draws, talkers]
    by_noise = talkers @ sums - mean[:, None] * (talkers @ counts)  # [draws, noises]
    drawn = ((talkers, by_talker), (noises, by_noise))
    sizes = [len(table) for table in (sums, sums.T)]
    variances = [
        (times * residuals**2).sum(-1) * size / (size - 1)
        for (times, residuals), size in zip(drawn, sizes, strict=True)
        if size > 1
    ]
    if len(variances) > 1:
        pairs = total(sums**2) - 2 * mean * total(sums * counts) + mean**2 * total(counts**2)
        variances.append(sum(variances) - pairs)
    variance = np.max(variances, axis=0) if variances else np.full_like(mean, np.inf)
    return mean, np.sqrt(variance) / total(counts)


def _speech_variance(values: np.ndarray, talkers: np.ndarray, noises: np.ndarray | None) -> tuple[float, float]:
    """Return the variance of the mean of values [N] over talkers and noises, and its degrees of freedom."""
    sums, counts = _tabulate(values, talkers, noises)
    sizes = [size for size in sums.shape if size > 1]
    return float(_mean_and_error(sums, counts)[1][0] ** 2), min(sizes, default=2) - 1


def _draw(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return how often each of `size` is drawn in each resample, [RESAMPLES, size]."""
    return np.apply_along_axis(np.bincount, 1, rng.integers(size, size=(RESAMPLES, size)), minlength=size)
