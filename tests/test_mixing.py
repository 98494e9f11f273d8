"""dataloader/mixing.py: mixtures have the SNR they are labelled with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloader.mixing import mix


@given(
    snr=st.floats(-20, 40),
    level=st.floats(-40, 0),
    dtype=st.sampled_from(["int16", "float32"]),
    span=st.sampled_from([slice(None), slice(1000, 3000)]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_a_mixture_has_its_snr_adds_up_and_never_clips(snr, level, dtype, span, seed):
    rng = np.random.default_rng(seed)
    clean = rng.uniform(-1, 1, 4000)
    noise = 100 * rng.standard_normal(4000)
    mixture = mix(clean, noise, snr, level, active=span, dtype=dtype)
    assert mixture.noisy.dtype == mixture.clean.dtype == dtype
    full_scale = 32768.0 if dtype == "int16" else 1.0
    noisy, speech = mixture.noisy / full_scale, mixture.clean / full_scale
    assert max(np.abs(noisy).max(), np.abs(speech).max()) <= 0.99 + 1 / 32768

    added = (mixture.noisy - mixture.clean) / full_scale  # in the type's own arithmetic
    wanted = mixture.scale * mixture.gain * noise
    assert np.array_equal(added, np.float64(noisy) - np.float64(speech))
    assert np.abs(added - wanted).max() <= (2**-16 if dtype == "int16" else 2**-25) * 1.001
    ratio = 10 * np.log10(np.sum(speech[span] ** 2) / np.sum(added[span] ** 2))
    assert ratio == pytest.approx(snr, abs=0.001 if dtype == "float32" or snr < 15 else 0.05)
    if mixture.scale == 1:
        assert 20 * np.log10(np.std(speech[span])) == pytest.approx(level, abs=0.1)


@pytest.mark.parametrize(
    ("clean", "noise", "message"),
    [
        (np.zeros(100), np.ones(100), "clean is silent"),
        (np.ones(100), np.zeros(100), "noise is silent"),
        (np.ones(100), np.full(100, np.nan), "noise holds NaN"),
        (np.full(100, 1e-7), np.ones(100), "too weak"),
    ],
)
def test_a_mixture_that_can_have_no_snr_is_refused_in_one_line(clean, noise, message):
    with pytest.raises(ValueError, match=message) as caught:
        mix(clean, noise, 0.0, -150.0)
    assert "\n" not in str(caught.value)
