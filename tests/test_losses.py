"""losses/: every term is the one in the literature, and none can wreck a training."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio
import torchmetrics.functional.audio as reference
from asteroid.losses import SingleSrcPMSQE
from asteroid_filterbanks import STFTFB, Encoder, transforms
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import speech_like

from losses import TERMS, build_loss


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


@pytest.mark.parametrize("base", ["MSE", "SDR", "SI-SNR", "SI-SDR"])
@pytest.mark.parametrize("perceptual", ["", "+LMS", "+PMSQE"])
def test_the_papers_twelve_losses_are_there(base, perceptual):
    estimate, clean = speech_like(0, samples=2000)
    loss, parts = build_loss(base + perceptual)(estimate, clean)
    assert loss.isfinite()
    assert "+".join(parts) == base + perceptual


def test_waveforms_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[2, 5\], \[2, 6\]"):
        TERMS["MSE"]()(torch.zeros(2, 5), torch.zeros(2, 6))
