"""Intervals that hold what they promise: over utterances, over seeds, and for calling two losses equal."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.reports.comparison import per_utterance
from tools.reports.significance import (
    confidence_interval,
    correct,
    paired_difference,
    pool_seeds,
    seed_difference,
    seed_variance,
)

UTTERANCES, CELLS, BOUND = 24, 14, 0.05


def trained(number, seeds, between_seeds, shift=0.0):
    """Scores [seeds, N] of two losses, and what clean speech each of the N is of.

    Normal: a part that is the seed's own, one of utterance and loss, one of utterance and seed, and the rest.
    """
    rng = np.random.default_rng([1, number])
    clean = np.tile(np.arange(UTTERANCES), CELLS)
    scores = [
        level
        + rng.normal(0, between_seeds, (seeds, 1))
        + rng.normal(0, 0.04, UTTERANCES)[clean]
        + rng.normal(0, 0.04, (seeds, UTTERANCES))[:, clean]
        + rng.normal(0, 0.1, (seeds, clean.size))
        for level in (shift, 0.0)
    ]
    return *scores, clean


def test_the_interval_of_a_mean_is_students_and_a_point_for_equal_values():
    assert confidence_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert confidence_interval([1.5, 1.5, 1.5]) == (1.5, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("between_seeds", [0.02, 0.05])
def test_intervals_over_seeds_hold_the_truth_in_93_to_97_of_100_trials(seeds, between_seeds):
    results = [seed_difference(*trained(number, seeds, between_seeds, 0.05)) for number in range(3000)]
    assert 0.93 <= np.mean([result.low <= 0.05 <= result.high for result in results]) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("between_seeds", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("seeds", [2, 3])
def test_losses_that_differ_by_the_bound_are_called_equal_in_less_than_5_of_100_trials(seeds, between_seeds):
    results = [seed_difference(*trained(number, seeds, between_seeds, BOUND)) for number in range(3000)]
    assert np.mean([result.is_within(BOUND) for result in results]) < 0.05


@pytest.mark.slow
def test_networks_that_differ_by_the_bound_are_called_equal_in_less_than_5_of_100_trials():
    def trial(number):
        signal, baseline, clean = trained(number, 1, 0.0, BOUND)
        return paired_difference((signal - baseline)[0], clean, seed=number)

    assert np.mean([trial(number).is_within(BOUND) for number in range(300)]) < 0.06  # 5% ± 1.3% of chance


def crossed(number, seeds=1, between_seeds=0.0):
    """Scores [seeds, N] of two losses, the first 0.1 better, and talker and noise of each of the N.

    25 talkers with two utterances each, at 5 SNRs with one of 18 noise recordings. Talkers, noises, and
    their pairs with each seed, favour one loss or the other.
    """
    rng = np.random.default_rng([2, number])
    talker = np.tile(np.repeat(np.arange(25), 2), 5)
    noise = np.tile(np.concatenate([rng.permutation(18) for _ in range(3)])[:50], 5)
    base = 0.1 + rng.normal(0, 0.05, 25)[talker] + rng.normal(0, 0.05, 18)[noise]
    scores = [
        level
        + rng.normal(0, between_seeds, (seeds, 1))
        + rng.normal(0, 0.02, (seeds, 25))[:, talker]
        + rng.normal(0, 0.02, (seeds, 18))[:, noise]
        + rng.normal(0, 0.1, (seeds, talker.size))
        for level in (base, 0.0)
    ]
    return *scores, talker, noise


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_over_talkers_noises_and_seeds_hold_the_truth_in_93_to_97_of_100_trials(seeds):
    covered, former = [], []
    for number in range(300):
        own, other, talker, noise = crossed(number, seeds, 0.01 * (seeds > 1))
        others = np.random.default_rng(number).normal(0, 0.01, (4, seeds))  # four more losses
        pooled = pool_seeds([own.mean(1), other.mean(1), *others])
        clean = np.tile(np.arange(50), 5)
        if seeds == 1:
            results = [paired_difference((own - other)[0], *drawn) for drawn in ((talker, noise), (clean,))]
        else:
            results = [
                seed_difference(own, other, talker, noise, pooled=pooled),
                seed_difference(own, other, clean),
            ]
        covered.append(results[0].low <= 0.1 <= results[0].high)
        former.append(results[1].low <= 0.1 <= results[1].high)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert np.mean(former) < 0.88  # over clean recordings alone, as if there were no other noises


@pytest.mark.slow
def test_intervals_of_pooled_word_errors_hold_the_truth_in_93_to_97_of_100_trials():
    sizes, (*_, talker, noise) = np.arange(1, 16), crossed(0)
    truth = 100 * (sizes * (0.01 * sizes - 0.05)).sum() / sizes.sum()
    covered, former = [], []
    for number in range(300):
        rng = np.random.default_rng([3, number])
        words = np.tile(rng.choice(sizes, 50), 5)
        favour = rng.normal(0, 0.03, 25)[talker] + rng.normal(0, 0.03, 18)[noise]
        rates = np.clip([0.35 - 0.01 * words + favour, 0.40 - 0.02 * words], 0.01, 0.99)
        own, other = rng.binomial(words, rates) / words
        rate = 100 * pd.DataFrame({"difference": own - other})
        pooled = per_utterance(rate.rename_axis("file"), pd.DataFrame({"file": rate.index, "words": words}), "wer")
        results = [paired_difference(values["difference"].to_numpy(), talker, noise) for values in (pooled, rate)]
        covered.append(results[0].low <= truth <= results[0].high)
        former.append(results[1].low <= truth <= results[1].high)
    assert 0.93 <= np.mean(covered) <= 0.98
    assert np.mean(former) < 0.93  # means of the rates of utterances


def test_the_mean_of_weighted_values_is_that_of_all_words_and_its_error_that_of_a_ratio():
    rng = np.random.default_rng(0)
    words = pd.Series(rng.integers(1, 20, 200))
    errors = pd.Series(rng.binomial(words, 0.3))
    rates = pd.DataFrame({"wer": errors / words}).rename_axis("file")
    values = per_utterance(rates, pd.DataFrame({"file": rates.index, "words": words}), "wer")["wer"]
    assert values.mean() == pytest.approx(errors.sum() / words.sum())
    drawn = rng.integers(200, size=(20000, 200))
    ratios = errors.to_numpy()[drawn].sum(1) / words.to_numpy()[drawn].sum(1)
    assert values.sem() == pytest.approx(ratios.std(), rel=0.03)


def test_seeds_are_pooled_only_if_they_vary_alike():
    rng = np.random.default_rng(0)
    alike = [rng.normal(n, 0.1, 4) for n in range(5)]
    variance, freedom = pool_seeds(alike)
    assert freedom == 15
    assert variance == pytest.approx(np.mean([np.var(seeds, ddof=1) for seeds in alike]))
    assert pool_seeds([*alike, rng.normal(0, 5, 4)]) is None
    assert pool_seeds([np.ones(1)]) is None


def test_equal_losses_are_called_equal_and_those_of_wide_intervals_are_not():
    assert np.mean([seed_difference(*trained(n, 5, 0.005)).is_within(BOUND) for n in range(50)]) > 0.8
    assert not any(seed_difference(*trained(n, 2, 0.1)).is_within(BOUND) for n in range(20))


def test_the_variance_over_seeds_is_that_of_a_hierarchical_bootstrap_without_its_surplus_of_interaction():
    # One seed and one utterance less are drawn than there are, which makes a bootstrap's variance unbiased.
    ratios = []
    for number in range(40):
        *scores, clean = trained(number, 3, 0.03)
        sums = [np.array([np.bincount(clean, row) for row in rows]) / CELLS for rows in scores]  # [seeds, groups]
        rng, (seeds, groups) = np.random.default_rng(number), sums[0].shape
        drawn = [rows[rng.integers(seeds, size=(2000, seeds - 1))].mean(1) for rows in sums]
        chosen = rng.integers(groups, size=(2000, groups - 1))
        bootstrap = np.take_along_axis(drawn[0] - drawn[1], chosen, 1).mean(1).var()
        rest = [rows - rows.mean(0) - (rows.mean(1, keepdims=True) - rows.mean()) for rows in sums]
        interaction = sum((r**2).sum() / ((seeds - 1) * (groups - 1)) / groups for r in rest)
        weight = 1 / (seeds - 1) + (1 - 1 / (seeds - 1)) / seeds  # sum of the squares of the drawn seeds' weights
        ratios.append((bootstrap - weight * interaction) / seed_variance(*sums, np.arange(groups))[0])
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


def test_one_clean_utterance_under_six_noises_counts_once():
    values = np.repeat(np.random.default_rng(0).normal(0, 0.1, 4), 6)
    result = paired_difference(values, np.repeat(np.arange(4), 6))
    assert result.p > 0.01
    once = paired_difference(values[::6], np.arange(4))
    assert (result.low, result.high) == pytest.approx((once.low, once.high))


def trial(number, shift, utterances=24, cells=14):
    """Differences of PESQ on a grid: a part that is the utterance's own in all cells, and one of each cell."""
    rng = np.random.default_rng(number)
    values = shift + rng.normal(0, 0.06, utterances) + rng.normal(0, 0.12, (cells, utterances))
    return paired_difference(values.ravel(), np.tile(np.arange(utterances), cells), seed=number)


def test_equal_runs_are_not_distinguishable_in_about_95_of_100_trials():
    results = [trial(number, 0.0) for number in range(300)]
    assert 0.91 < np.mean([result.p >= 0.05 for result in results]) < 0.99
    assert 0.91 < np.mean([result.low <= 0 <= result.high for result in results]) < 0.99


def test_a_shift_of_five_hundredths_of_pesq_is_found():
    results = [trial(number, 0.05) for number in range(100)]
    assert np.mean([result.p < 0.05 for result in results]) > 0.85
    assert np.mean([result.low <= 0.05 <= result.high for result in results]) > 0.88


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(1, 5))
def test_an_interval_and_its_p_value_never_disagree(values, repeats):
    result = paired_difference(np.repeat(values, repeats), np.repeat(np.arange(len(values)), repeats))
    assert result.low <= result.mean <= result.high
    if result.p < 0.05:
        assert result.low > 0 or result.high < 0
    mirrored = paired_difference(-np.repeat(values, repeats), np.repeat(np.arange(len(values)), repeats))
    assert mirrored.p == result.p


def test_many_comparisons_of_equal_runs_find_nothing_much_more_often_than_once_in_twenty():
    rng = np.random.default_rng(0)
    found = [(correct(rng.uniform(size=20)) < 0.05).any() for _ in range(500)]
    assert np.mean(found) < 0.09


def test_three_utterances_show_no_difference():
    assert all(trial(number, 0.05, utterances=3).p > 0.05 for number in range(20))
