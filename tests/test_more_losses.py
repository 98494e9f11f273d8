"""losses/: the terms beyond the paper's are what their sources and other implementations compute."""

from __future__ import annotations

import math
import sys

import auraloss
import numpy as np
import pesq
import pystoi
import pytest
import scipy.signal
import torch
import torchmetrics.functional.audio as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import speech_like, voiced
from torch_stoi import NegSTOILoss

from losses import TERMS, build_loss
from losses.waveform import KNEE
from tools.common.errors import UserError


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("L1", torch.nn.L1Loss(reduction="none")),
        ("log-cosh", auraloss.time.LogCoshLoss(a=1 / KNEE, eps=0.0, reduction="none")),
    ],
)
def test_errors_of_the_samples_agree_with_outside_implementations(name, outside):
    estimate, clean = voiced(0)
    expected = torch.stack([outside(e, s).mean() for e, s in zip(estimate, clean, strict=True)])
    torch.testing.assert_close(TERMS[name]()(estimate, clean), expected, rtol=1e-6, atol=1e-9)


def test_snr_with_a_soft_threshold_is_the_snr_far_below_it_and_ends_there():
    noisy, clean = voiced(0)
    term, snr = TERMS["SNR"](), reference.signal_noise_ratio
    far = clean + 3 * (noisy - clean)
    torch.testing.assert_close(term(far, clean), -snr(far, clean), rtol=0, atol=0.01)
    torch.testing.assert_close(term(clean, clean), torch.full((3,), -30.0).double(), rtol=0, atol=1e-3)
    at_threshold = clean + 10 ** (-25 / 20) * (noisy - clean)  # the noise of `noisy` is at 5 dB
    assert snr(at_threshold, clean).tolist() == pytest.approx([30.0] * 3, abs=0.3)
    assert term(at_threshold, clean).tolist() == pytest.approx([-27.0] * 3, abs=0.2)


@settings(max_examples=20, deadline=None)
@given(correlation=st.floats(-0.999, 0.999), gain=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_signed_si_snr_is_its_closed_form_in_the_correlation(correlation, gain, seed):
    noise, clean = (x - x.mean(-1, keepdim=True) for x in speech_like(seed, samples=2000))
    noise = noise - (noise * clean).sum(-1, keepdim=True) / clean.square().sum(-1, keepdim=True) * clean
    clean, noise = (x / x.norm(dim=-1, keepdim=True) for x in (clean, noise))
    estimate = gain * (correlation * clean + math.sqrt(1 - correlation**2) * noise) + 0.3
    expected = torch.full((3,), 10 * math.log10(2 - 2 * correlation), dtype=torch.float64)
    torch.testing.assert_close(TERMS["signed-SI-SNR"]()(estimate, clean), expected, rtol=0, atol=1e-4)


def test_signed_si_snr_leads_out_of_the_inverted_solution_where_si_snr_keeps_it():
    noisy, clean = voiced(1)
    inverted = (-noisy).requires_grad_()
    towards = {}
    for name in ("SI-SNR", "signed-SI-SNR"):
        (gradient,) = torch.autograd.grad(TERMS[name]()(inverted, clean).sum(), inverted)
        towards[name] = -(gradient * clean).sum(-1)
    assert (towards["SI-SNR"] < 0).all()
    assert (towards["signed-SI-SNR"] > 0).all()


def test_weighted_sdr_agrees_with_the_papers_formula_in_numpy():
    noisy, clean = voiced(2)
    estimate = 0.4 * noisy + 0.5 * clean
    expected = []
    for x, y, z in zip(noisy.numpy(), clean.numpy(), estimate.numpy(), strict=True):
        n, m = x - y, x - z
        share = (y @ y) / (y @ y + n @ n)
        cosines = [(u @ v) / np.sqrt((u @ u) * (v @ v)) for u, v in ((y, z), (n, m))]
        expected.append(-share * cosines[0] - (1 - share) * cosines[1])
    value = TERMS["wSDR"]()(estimate, clean, noisy)
    torch.testing.assert_close(value, torch.tensor(np.array(expected)), rtol=0, atol=5e-4)


def test_a_term_that_needs_the_noisy_speech_says_so():
    with pytest.raises(ValueError, match="WeightedSDR: found"):
        build_loss("wSDR")(torch.zeros(2, 5), torch.zeros(2, 5))


def test_mr_stft_agrees_with_auraloss_on_each_utterance():
    estimate, clean = (torch.nn.functional.pad(x, (1024, 1024)) for x in voiced(3))  # its reflections are silent
    outside = auraloss.freq.MultiResolutionSTFTLoss()
    for part in outside.stft_losses:
        part.window = part.window.double()
    expected = torch.stack([outside(e[None, None], s[None, None]) for e, s in zip(estimate, clean, strict=True)])
    torch.testing.assert_close(TERMS["MR-STFT"]()(estimate, clean), expected, rtol=1e-6, atol=1e-6)


def test_pc_mse_agrees_with_the_papers_formula_on_scipys_spectra():
    estimate, clean = speech_like(4)  # no band of it is silent, where the floor would count
    expected = []
    for e, s in zip(estimate.numpy(), clean.numpy(), strict=True):
        level = np.sqrt(np.mean(s**2))
        spectra = [scipy.signal.stft(x / level, window="hann", nperseg=320)[2] * 160 for x in (e, s)]
        magnitudes = [np.abs(spectrum) ** 0.3 for spectrum in spectra]
        compressed = [m * np.exp(1j * np.angle(x)) for m, x in zip(magnitudes, spectra, strict=True)]
        of_magnitude = np.mean((magnitudes[0] - magnitudes[1]) ** 2)
        expected.append(0.7 * of_magnitude + 0.3 * np.mean(np.abs(compressed[0] - compressed[1]) ** 2))
    value = TERMS["PC-MSE"]()(estimate, clean)
    torch.testing.assert_close(value, torch.tensor(np.array(expected)), rtol=2e-3, atol=0)


def test_pc_mse_does_not_depend_on_the_level_of_the_recording():
    noisy, clean = voiced(5)
    term = TERMS["PC-MSE"]()
    torch.testing.assert_close(term(0.1 * noisy, 0.1 * clean), term(noisy, clean), rtol=1e-3, atol=0)


def spectra(signals: torch.Tensor, hop: int, window: np.ndarray) -> np.ndarray:
    """[B, samples] to [B, frames, 257], by the definition: frames of 512 samples, zeros beyond both ends."""
    padded = np.pad(signals.numpy(), ((0, 0), (256, 256)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512, axis=1)[:, ::hop]
    return np.fft.rfft(frames * window)


HANN = scipy.signal.get_window("hann", 512)
SHORT_HANN = np.pad(scipy.signal.get_window("hann", 400), 56)


def compressed(spectrum: np.ndarray) -> np.ndarray:
    return np.abs(spectrum) ** 0.3 * np.exp(1j * np.angle(spectrum))


def compressed_mask(noisy: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return K (1 - exp(-C m)) / (1 + exp(-C m)) of both parts of m = S / X, K = 10, C = 0.1."""
    mask = of / noisy
    return np.stack([10 * (1 - np.exp(-0.1 * m)) / (1 + np.exp(-0.1 * m)) for m in (mask.real, mask.imag)])


# Of the spectra of estimate, clean and noisy: what a term computes, as its source writes it.
FORMULAS = {
    "spectral-MSE": (100, SHORT_HANN, lambda e, s, x: ((s - e).real ** 2 + (s - e).imag ** 2) / 2),
    "magnitude-MSE": (100, SHORT_HANN, lambda e, s, x: (np.abs(s) - np.abs(e)) ** 2),
    "cIRM-MSE": (256, HANN, lambda e, s, x: np.mean((compressed_mask(x, s) - compressed_mask(x, e)) ** 2, 0)),
    "compressed-complex": (256, HANN**0.5, lambda e, s, x: np.abs(compressed(s) - compressed(e)) ** 2),
    "compressed-magnitude": (256, HANN**0.5, lambda e, s, x: (np.abs(s) ** 0.3 - np.abs(e) ** 0.3) ** 2),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_on_what_networks_estimate_are_their_formulas_in_numpy(name):
    noisy, clean = (x + 1e-3 for x in speech_like(4))  # no band of it is silent, where the floors would count
    estimate = 0.4 * noisy + 0.5 * clean
    hop, window, formula = FORMULAS[name]
    expected = formula(*(spectra(x, hop, window) for x in (estimate, clean, noisy))).mean((1, 2))
    value = TERMS[name]().double()(estimate, clean, noisy)
    torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-4, atol=0)


def test_gtcrns_loss_is_the_published_combination_of_its_terms():
    noisy, clean = speech_like(4)
    value, parts = build_loss("GTCRN").double()(noisy, clean)
    target = (noisy * clean).sum(-1, keepdim=True) / clean.square().sum(-1, keepdim=True) * clean
    ratio = target.square().sum(-1) / (noisy - target).square().sum(-1)
    expected = 30 * parts["compressed-complex"] + 70 * parts["compressed-magnitude"] - ratio.log10().mean()
    torch.testing.assert_close(100.1 * value, expected, rtol=1e-6, atol=0)
    with pytest.raises(UserError, match=r"there is no 'GTCRN'; known terms: .*; combinations: GTCRN"):
        build_loss("GTCRN+LMS")


@pytest.mark.parametrize(("name", "extended"), [("STOI", False), ("ESTOI", True)])
def test_stoi_agrees_with_pystoi(name, extended):
    noisy, clean = (x.numpy().copy() for x in voiced(6, samples=32000))
    for pause in (slice(5000, 9000), slice(21000, 24000)):
        clean[:, pause] *= 1e-4  # silent frames, which it leaves out
    expected = [pystoi.stoi(s, e, 16000, extended) for e, s in zip(noisy, clean, strict=True)]
    value = TERMS[name]().double()(torch.from_numpy(noisy), torch.from_numpy(clean))
    assert (-value).tolist() == pytest.approx(expected, abs=0.005)


def test_stoi_leaves_out_silence_as_torch_stoi_does():
    noisy, clean = (x.float() for x in voiced(7, samples=20000))
    clean[:, 6000:9000] = 0
    clean[1, 12000:15000] = 0
    outside = NegSTOILoss(10000, do_resample=False)
    torch.testing.assert_close(TERMS["STOI"]().distance(noisy, clean), outside(noisy, clean), rtol=1e-5, atol=1e-6)


def test_differentiable_pesq_orders_noise_levels_as_pesq_does():
    try:
        term = TERMS["PESQ"]()
    except UserError as error:
        pytest.skip(str(error))
    noisy, clean = voiced(8, samples=32000)
    estimates = [clean + share * (noisy - clean) for share in (0.1, 0.3, 1.0)]
    values = [term(estimate, clean)[0].item() for estimate in estimates]
    scores = [pesq.pesq(16000, clean[0].numpy(), estimate[0].numpy(), "wb") for estimate in estimates]
    assert values == sorted(values)
    assert scores == sorted(scores, reverse=True)


def test_a_term_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pesq", None)
    with pytest.raises(
        UserError, match=r"torch-pesq, .* pip install --no-deps -r requirements-pesq.txt"
    ) as caught:
        build_loss("SI-SNR+PESQ", "balanced")
    assert "\n" not in str(caught.value)
