"""models/streaming.py: a live signal is enhanced as the whole recording would be, and no later than promised."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ALL_SETTINGS, STREAMING, trained_like

from models.streaming import StreamingEnhancer

MODEL = trained_like()
ENHANCER = StreamingEnhancer(MODEL)


def stream(enhancer, noisy, sizes):
    pieces = [enhancer.push(block) for block in noisy.split(sizes, -1)]
    return torch.cat([*pieces, enhancer.flush()], -1)


@torch.no_grad()
def offline(model, noisy):
    return model(noisy[None])[0]


@pytest.mark.parametrize("options", ALL_SETTINGS, ids=lambda o: "-".join(map(str, o.values())))
def test_the_stream_is_the_offline_estimate_for_every_kind_of_network(options):
    model = trained_like(**options)
    noisy = torch.randn(3210) * 0.1
    estimate = stream(StreamingEnhancer(model), noisy, 160)
    torch.testing.assert_close(estimate, offline(model, noisy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", STREAMING)
def test_the_stream_is_the_offline_estimate_for_every_network_block_size_and_length(name):
    model = trained_like(name)
    enhancer = StreamingEnhancer(model)
    noisy = torch.randn(3333) * 0.1
    for block in (1, 37, 100, 160, 1600, 48000):
        torch.testing.assert_close(stream(enhancer, noisy, block), offline(model, noisy), rtol=0, atol=1e-5)
    for samples in (1, 99, 100, 101, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025):  # at the ends of hops
        noisy = torch.randn(samples) * 0.1
        torch.testing.assert_close(stream(enhancer, noisy, 160), offline(model, noisy), rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 700), max_size=8), seed=st.integers(0, 99))
def test_any_blocks_of_any_length_lose_and_change_nothing(sizes, seed):
    noisy = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(seed)) * 0.3
    estimate = stream(ENHANCER, noisy, sizes)
    assert estimate.shape == noisy.shape
    if noisy.numel():
        torch.testing.assert_close(estimate, offline(MODEL, noisy), rtol=0, atol=1e-5)


def test_channels_are_enhanced_each_on_its_own():
    noisy = torch.randn(2, 2500) * 0.1
    estimate = stream(StreamingEnhancer(MODEL, channels=2), noisy, 1000)
    for channel in range(2):
        torch.testing.assert_close(estimate[channel], offline(MODEL, noisy[channel]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "latency"), STREAMING.items())
def test_every_sample_is_out_no_later_than_the_latency(name, latency):
    enhancer = StreamingEnhancer(trained_like(name))
    assert enhancer.latency == latency
    ready = 0
    for arrived in range(1, 2501):
        ready += enhancer.push(torch.zeros(1)).shape[0]
        assert ready > arrived - latency


def test_a_reset_stream_has_forgotten_the_signal_before():
    noisy = torch.randn(2000) * 0.1
    ENHANCER.push(torch.randn(1234))
    ENHANCER.reset()
    torch.testing.assert_close(stream(ENHANCER, noisy, 500), offline(MODEL, noisy), rtol=0, atol=1e-5)


def test_a_kept_state_can_be_restored():
    first, second = torch.randn(2, 1777) * 0.1
    ENHANCER.push(first)
    saved = ENHANCER.state
    once = torch.cat([ENHANCER.push(second), ENHANCER.flush()])
    ENHANCER.push(torch.randn(999))
    ENHANCER.state = saved
    again = torch.cat([ENHANCER.push(second), ENHANCER.flush()])
    assert torch.equal(once, again)


def test_training_on_does_not_reach_a_stream_that_exists():
    model, noisy = trained_like(), torch.randn(1500) * 0.1
    enhancer, before = StreamingEnhancer(model), offline(model, noisy)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    torch.testing.assert_close(stream(enhancer, noisy, 160), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 10), (), (1, 1, 10)])
def test_samples_of_the_wrong_shape_are_named(shape):
    with pytest.raises(ValueError, match="expected \\[samples\\]"):
        ENHANCER.push(torch.zeros(shape))
