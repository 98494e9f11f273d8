"""losses/: every term is the one in the literature, and none can wreck a training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio
import torchmetrics.functional.audio as reference
from asteroid.losses import SingleSrcPMSQE
from asteroid_filterbanks import STFTFB, Encoder, transforms
from hypothesis import given, settings
from hypothesis import strategies as st

from losses import TERMS, LossError, LossTerm, build_loss, known_losses, register

THE_TWELVE = {
    base + perceptual for base in ("MSE", "SDR", "SI-SNR", "SI-SDR") for perceptual in ("", "+LMS", "+PMSQE")
}


def speech_like(seed: int, samples: int = 16000, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy and clean, [batch, samples] float64: modulated coloured noise, and other noise on it at 5 dB."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(2, batch, samples, generator=generator, dtype=torch.float64)
    time = torch.arange(samples, dtype=torch.float64) / 16000
    clean = torch.cumsum(white[0], -1) * 0.003 * (1 + torch.sin(2 * math.pi * 4 * time))
    clean = clean - clean.mean(-1, keepdim=True) + 0.01
    noise = white[1] * clean.std(-1, keepdim=True) * 10 ** (-5 / 20)
    return clean + noise, clean


def test_the_papers_twelve_losses_are_known_by_name():
    assert set(known_losses()) == THE_TWELVE


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("SI-SNR", reference.scale_invariant_signal_noise_ratio),
        ("SI-SDR", reference.scale_invariant_signal_distortion_ratio),
        ("SDR", reference.signal_noise_ratio),  # "SNR" is torchmetrics' name for it
        ("MSE", lambda estimate, clean: -(estimate - clean).square().mean(-1)),
    ],
)
def test_base_losses_agree_with_torchmetrics(name, outside):
    estimate, clean = speech_like(0)
    torch.testing.assert_close(TERMS[name]()(estimate, clean), -outside(estimate, clean), rtol=1e-6, atol=1e-6)


def test_lms_agrees_with_torchaudios_mel_spectrogram():
    estimate, clean = speech_like(1)
    distances = []
    for bands in (16, 32, 64):
        mel = torchaudio.transforms.MelSpectrogram(
            16000, 512, 400, 100, f_max=8000, n_mels=bands, power=1, center=False, norm=None, mel_scale="htk"
        ).double()
        # torchaudio centres the 400-sample window in the 512 points, 56 samples later than LMS does.
        logs = [torch.log(mel(torch.nn.functional.pad(x, (356, 356))) / 512 + 1e-7) for x in (estimate, clean)]
        rms = ((logs[0] - logs[1]).square().mean(1) + 1e-7).sqrt()  # over bands, [B, frames]
        distances.append(rms.mean(-1))
    expected = torch.stack(distances).mean(0)
    torch.testing.assert_close(TERMS["LMS"]()(estimate, clean), expected, rtol=1e-5, atol=1e-6)


def test_a_louder_estimate_is_as_far_in_lms_as_its_gain():
    _, clean = speech_like(2)
    value = TERMS["LMS"]()(2 * clean, clean)  # ln 2 in each band that the floor of 1e-7 does not reach
    torch.testing.assert_close(value, torch.full_like(value, math.log(2)), rtol=0.02, atol=0)


def test_pmsqe_agrees_with_asteroids_own_filter_bank_on_power_spectra():
    estimate, clean = speech_like(3, samples=512 + 256 * 60)
    encoder = Encoder(STFTFB(n_filters=512, kernel_size=512, stride=256)).double()
    power = [transforms.mag(encoder(x[:, None]), EPS=0.0).square().transpose(1, 2) for x in (estimate, clean)]
    for p in power:
        p[..., [0, -1]] *= 2  # this filter bank halves the power at DC and Nyquist, a DFT does not
    expected = SingleSrcPMSQE().double()(*power)
    torch.testing.assert_close(TERMS["PMSQE"]().double()(estimate, clean), expected, rtol=1e-5, atol=0)


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_scale_invariant_losses_do_not_see_the_level(gain, seed):
    estimate, clean = speech_like(seed, samples=2000)
    for name in ("SI-SNR", "SI-SDR"):
        term = TERMS[name]()
        torch.testing.assert_close(term(gain * estimate, clean), term(estimate, clean), rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(gain_db=st.floats(-40, 20).filter(lambda g: abs(g) > 0.5), seed=st.integers(0, 99))
def test_sdr_of_a_scaled_copy_is_its_closed_form(gain_db, seed):
    _, clean = speech_like(seed, samples=2000)
    gain = 10 ** (gain_db / 20)
    expected = torch.full((3,), 20 * math.log10(abs(1 - gain)), dtype=torch.float64)
    torch.testing.assert_close(TERMS["SDR"]()(gain * clean, clean), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_a_perfect_estimate_has_the_lowest_loss(name):
    noisy, clean = speech_like(4)
    term = TERMS[name]()
    perfect = term(clean, clean)
    for share in (0.01, 0.1, 1.0):
        worse = term(clean + share * (noisy - clean), clean)
        assert (worse > perfect).all()
        perfect = worse  # and it grows with the noise


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_those_of_the_value(name):
    estimate, clean = speech_like(5, samples=700, batch=1)
    term = TERMS[name]().double()
    assert torch.autograd.gradcheck(lambda e: term(e, clean), estimate.requires_grad_(), eps=1e-7, fast_mode=True)


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_has_one_value_an_utterance_whatever_its_neighbours(name):
    estimate, clean = (x.float() for x in speech_like(6))
    term = TERMS[name]()
    singles = torch.cat([term(estimate[n : n + 1], clean[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(term(estimate, clean), singles, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(THE_TWELVE))
@pytest.mark.parametrize("samples", [1, 399, 4001])
@pytest.mark.parametrize(
    ("estimate_level", "clean_level"), [(0, 0.1), (0.1, 0), (0, 0), (1e-9, 0.1), (0.1, 1e-9), (1, 1)]
)
def test_silence_and_tiny_signals_give_a_finite_loss_and_gradient(name, samples, estimate_level, clean_level):
    torch.manual_seed(0)
    estimate = (estimate_level * torch.randn(2, samples)).requires_grad_()
    clean = clean_level * torch.randn(2, samples)
    loss, _ = build_loss(name)(estimate, clean)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(estimate.grad).all()


@pytest.mark.parametrize("name", TERMS)
def test_half_precision_outside_does_not_change_a_loss(name):
    estimate, clean = (x.bfloat16() for x in speech_like(7))
    term = TERMS[name]()
    with torch.autocast("cpu", torch.bfloat16):
        value = term(estimate, clean)
    torch.testing.assert_close(value, term(estimate.float(), clean.float()), rtol=0, atol=0)


def test_a_combination_is_its_weighted_parts():
    estimate, clean = speech_like(8)
    loss, parts = build_loss("SI-SNR+LMS")(estimate, clean)
    assert list(parts) == ["SI-SNR", "LMS"]
    assert loss.item() == pytest.approx((parts["SI-SNR"].item() + 2 * parts["LMS"].item()) / 3)
    assert parts["LMS"].item() == pytest.approx(TERMS["LMS"]()(estimate, clean).mean().item())


@pytest.mark.parametrize(
    ("name", "base", "perceptual"),
    [
        ("MSE+LMS", 1000, 1),
        ("SI-SNR+LMS", 1, 2),
        ("SDR+LMS", 1, 2),
        ("SDR+PMSQE", 1, 15),
        ("SI-SNR+PMSQE", 1, 8),
    ],
)
def test_published_coupling_constants_are_the_default(name, base, perceptual):
    weights = list(build_loss(name).weights.values())
    np.testing.assert_allclose(weights, np.array([base, perceptual]) / (base + perceptual))


def test_coupling_can_be_chosen():
    assert build_loss("MSE+LMS", (3, 1)).weights == {"MSE": 0.75, "LMS": 0.25}


@pytest.mark.parametrize(
    ("name", "coupling", "message"),
    [
        ("SISNR", "paper", "no 'SISNR'; known losses: MSE"),
        ("MSE+", "paper", "no ''"),
        ("MSE+MSE", "paper", "every term once"),
        ("MSE+LMS", (1.0,), "found 1 numbers for MSE[+]LMS, expected 2"),
    ],
)
def test_a_loss_that_does_not_exist_is_named_in_one_line(name, coupling, message):
    with pytest.raises(LossError, match=message) as caught:
        build_loss(name, coupling)
    assert "\n" not in str(caught.value)


def test_a_new_term_needs_nothing_but_its_class():
    @register("L1")
    class L1(LossTerm):
        def compare(self, estimate, clean):
            return (estimate - clean).abs().mean(-1)

    try:
        assert "L1+PMSQE" in known_losses()
        loss, parts = build_loss("L1+LMS")(torch.zeros(2, 500), torch.ones(2, 500))
        assert parts["L1"] == 1
        assert loss == pytest.approx((1 + parts["LMS"].item()) / 2)  # terms that nobody coupled count alike
        with pytest.raises(LossError, match="registered twice"):
            register("L1")(L1)
    finally:
        del TERMS["L1"]


def test_waveforms_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[2, 5\], clean \[2, 6\]"):
        TERMS["MSE"]()(torch.zeros(2, 5), torch.zeros(2, 6))
