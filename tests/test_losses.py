"""losses/: every term is the one in the literature: against other implementations, formulas and original code."""

import sys
from pathlib import Path

import auraloss
import numpy as np
import pesq
import pystoi
import pytest
import scipy.signal
import torch
import torchaudio
import torchmetrics.functional.audio as reference
from asteroid.losses import SingleSrcPMSQE
from asteroid_filterbanks import STFTFB, Encoder, transforms
from signals import speech_like, voiced

from losses import TERMS, build_loss, compressed, spectral, waveform
from losses.metric_gan import Discriminator
from losses.spectral import STFT
from tools.common.errors import UserError
from tools.scoring.scores import ScorePool

# -- Against other implementations --


def correlation(e, s):
    return torch.cosine_similarity(e - e.mean(-1, keepdim=True), s - s.mean(-1, keepdim=True), dim=-1)


def weighted_sdr(e, s, x):
    speech, noise = s.square().sum(-1), (x - s).square().sum(-1)
    similarities = torch.cosine_similarity(e, s, dim=-1), torch.cosine_similarity(x - e, x - s, dim=-1)
    return -(speech * similarities[0] + noise * similarities[1]) / (speech + noise)


def each(loss, e, s):
    """Return the value of every utterance, for an auraloss that averages over a batch."""
    return torch.stack([loss(one[None, None], other[None, None]) for one, other in zip(e, s, strict=True)])


def auraloss_mr_stft(e, s, x):
    outside = auraloss.freq.MultiResolutionSTFTLoss()
    for part in outside.stft_losses:
        part.window = part.window.double()
    return each(outside, e, s)


# Of estimate, clean and noisy.
OUTSIDE = {
    "SI-SNR": lambda e, s, x: -reference.scale_invariant_signal_noise_ratio(e, s),
    "SI-SDR": lambda e, s, x: -reference.scale_invariant_signal_distortion_ratio(e, s),
    "SDR": lambda e, s, x: -reference.signal_noise_ratio(e, s),  # "SNR" is torchmetrics' name for it
    "SNR": lambda e, s, x: 10 * torch.log10((s - e).square().sum(-1) / s.square().sum(-1) + 1e-3),
    "signed-SI-SNR": lambda e, s, x: 10 * torch.log10(2 - 2 * correlation(e, s)),
    "wSDR": weighted_sdr,
    "MSE": lambda e, s, x: (e - s).square().mean(-1),
    "L1": lambda e, s, x: (e - s).abs().mean(-1),
    "log-cosh": lambda e, s, x: each(auraloss.time.LogCoshLoss(a=100, eps=0.0), e, s),
    "MR-STFT": auraloss_mr_stft,
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("share", [-0.5, 0.03, 1.0])
def test_losses_agree_with_torchmetrics_auraloss_and_closed_forms(name, share, monkeypatch):
    monkeypatch.setattr(waveform, "NOISE_FLOOR", 0.0)
    noisy, clean = speech_like(0)
    estimate = 0.9 * clean + share * (0.4 * noisy - 2 * clean.roll(9, -1))
    expected = OUTSIDE[name](estimate, clean, noisy)
    torch.testing.assert_close(TERMS[name]()(estimate, clean, noisy), expected, rtol=1e-6, atol=1e-6)


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


def test_pmsqe_agrees_with_asteroids_own_filter_bank_on_power_spectra():
    estimate, clean = speech_like(3, samples=512 + 256 * 60)
    encoder = Encoder(STFTFB(n_filters=512, kernel_size=512, stride=256)).double()
    power = [transforms.mag(encoder(x[:, None]), EPS=0.0).square().transpose(1, 2) for x in (estimate, clean)]
    for p in power:
        p[..., [0, -1]] *= 2  # this filter bank halves the power at DC and Nyquist, a DFT does not
    expected = SingleSrcPMSQE().double()(*power)
    torch.testing.assert_close(TERMS["PMSQE"]().double()(estimate, clean), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("name", "extended"), [("STOI", False), ("ESTOI", True)])
def test_stoi_agrees_with_pystoi(name, extended):
    noisy, clean = (x.numpy().copy() for x in voiced(6, samples=32000))
    for pause in (slice(5000, 9000), slice(21000, 24000)):
        clean[:, pause] *= 1e-4  # silent frames, which it leaves out
    expected = [pystoi.stoi(s, e, 16000, extended) for e, s in zip(noisy, clean, strict=True)]
    value = TERMS[name]().double()(torch.from_numpy(noisy), torch.from_numpy(clean))
    assert (-value).tolist() == pytest.approx(expected, abs=0.005)


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
    with pytest.raises(UserError, match=r"torch_pesq.*; pip install --no-deps -r requirements-pesq.txt"):
        build_loss("SI-SNR+PESQ", "balanced")


# -- Against formulas --


def spectra(signals: np.ndarray, fft: int, hop: int, window: np.ndarray) -> np.ndarray:
    """[B, samples] to [B, frames, bins], by the definition: centred frames, reflected at both ends."""
    padded = np.pad(signals, ((0, 0), (fft // 2, fft // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft, axis=1)[:, ::hop]
    return np.fft.rfft(frames * window)


def hann(samples: int) -> np.ndarray:
    return scipy.signal.get_window("hann", samples)


def compressed_mask(noisy: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return K (1 - exp(-C m)) / (1 + exp(-C m)) of both parts of m = S / X, K = 10, C = 0.1."""
    mask = of / noisy
    return np.stack([10 * (1 - np.exp(-0.1 * m)) / (1 + np.exp(-0.1 * m)) for m in (mask.real, mask.imag)])


def of_masks(e: np.ndarray, s: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.mean((compressed_mask(x, s) - compressed_mask(x, e)) ** 2, 0)


def of_magnitude(e: np.ndarray, s: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return (np.abs(s) ** 0.3 - np.abs(e) ** 0.3) ** 2


def of_complex(e: np.ndarray, s: np.ndarray, *_: np.ndarray) -> np.ndarray:
    e, s = (np.abs(x) ** 0.3 * np.exp(1j * np.angle(x)) for x in (e, s))
    return np.abs(s - e) ** 2


def at_one_level(formula):
    """Divide spectra by the RMS of the clean speech, `speech_like(4)` with an offset, before a formula."""
    level = np.sqrt(np.mean((speech_like(4)[1].numpy() + 1e-3) ** 2, 1))[:, None, None]
    return lambda e, s, x: formula(e / level, s / level)


# Of the spectra of estimate, clean and noisy: what a term computes, as its source writes it.
FORMULAS = {
    "spectral-MSE": (512, 100, np.pad(hann(400), 56), lambda e, s, x: np.abs(s - e) ** 2 / 2),
    "magnitude-MSE": (512, 100, np.pad(hann(400), 56), lambda e, s, x: (np.abs(s) - np.abs(e)) ** 2),
    "cIRM-MSE": (512, 256, hann(512), of_masks),
    "PC-MSE": (320, 160, hann(320), at_one_level(lambda e, s: 0.7 * of_magnitude(e, s) + 0.3 * of_complex(e, s))),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_on_spectra_are_their_formulas_in_numpy(name, monkeypatch):
    for module, floor in ((compressed, "POWER_FLOOR"), (spectral, "MASK_FLOOR")):
        monkeypatch.setattr(module, floor, 1e-20)
    noisy, clean = (x + 1e-3 for x in speech_like(4))
    estimate = 0.4 * noisy + 0.5 * clean
    fft, hop, window, formula = FORMULAS[name]
    expected = formula(*(spectra(x.numpy(), fft, hop, window) for x in (estimate, clean, noisy))).mean((1, 2))
    value = TERMS[name]().double()(estimate, clean, noisy)
    torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-4, atol=0)


def test_weighted_phase_is_its_formula_in_numpy():
    e, s = (spectra(x.numpy(), 400, 100, hann(400)) for x in speech_like(4))
    weight, error, total = np.abs(s), np.angle(s) - np.angle(e), 0
    for axis in (None, 1, 2):  # of [B, frames, bins]
        by = weight if axis is None else np.sqrt(np.delete(weight, 0, axis) * np.delete(weight, -1, axis))
        change = error if axis is None else np.diff(error, axis=axis)
        total += (by * np.abs(np.angle(np.exp(1j * change)))).sum((1, 2)) / by.sum((1, 2))
    value = TERMS["phase-weighted"]().double()(*speech_like(4))
    torch.testing.assert_close(value, torch.tensor(total), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["MR-compressed", "PC-MSE", "compressed-complex"])
def test_a_network_that_has_gone_silent_still_learns(name):
    _, clean = voiced(6)
    for estimate in (torch.zeros_like(clean), 1e-6 * torch.randn_like(clean)):
        estimate.requires_grad_()
        (gradient,) = torch.autograd.grad(TERMS[name]()(estimate, clean).sum(), estimate)
        norm = gradient.norm(dim=-1)
        assert ((norm > 1) & (norm < 1e5)).all()


# -- Against the original code's values, in float64 --

REFERENCE = np.load(Path(__file__).parent / "reference_losses.npz")


def reference_pair() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(REFERENCE[name] / 32768) for name in ("estimate", "clean"))


def assert_is_original(value: torch.Tensor, expected: np.ndarray, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(value, torch.tensor(expected), rtol=rtol, atol=0)


def test_mr_l1_is_that_of_espnet():
    assert_is_original(TERMS["MR-L1"]()(*reference_pair()), REFERENCE["value/urgent_mean"])


def test_mr_compressed_is_that_of_deepfilternet_but_for_its_floor(monkeypatch):
    expected = REFERENCE["value/dfn3_80_160_320_640"]
    assert_is_original(TERMS["MR-compressed"]().double()(*reference_pair()), expected, rtol=0.01)
    monkeypatch.setattr(compressed, "RELATIVE_FLOOR", 0.0)
    monkeypatch.setattr(compressed, "SILENCE", 1e-24)
    assert_is_original(TERMS["MR-compressed"]().double()(*reference_pair()), expected)


def test_phase_is_that_of_mp_senet_but_for_its_bias():
    term, pair = TERMS["phase"]().double(), reference_pair()
    for suffix, rtol in (("", 1e-3), ("_unit", 3e-5)):  # at a level of one, the bias hardly counts
        expected = sum(REFERENCE[f"value/phase_{name}{suffix}"] for name in ("ip", "gd", "iaf"))
        assert_is_original(term(*pair), expected, rtol)


def test_asymmetric_is_that_of_plcpa_asym_with_its_spectra(monkeypatch):
    monkeypatch.setattr(compressed, "POWER_FLOOR", 1e-10)
    estimate, clean = (x - x.mean(-1, keepdim=True) for x in reference_pair())
    term, whole_frames = TERMS["asymmetric"]().double(), STFT(512, 160, torch.hamming_window(320).sqrt())
    term.transforms[0].forward = lambda x: whole_frames.double()(x)[..., 1:-1]
    at_one_level = clean.square().mean(-1).sqrt().numpy() ** 0.6
    assert_is_original(term(estimate, clean), REFERENCE["value/asymmetric"] / at_one_level)


def test_gtcrns_loss_is_the_original_but_for_the_samples_after_the_last_whole_hop():
    estimate, clean = reference_pair()
    whole = 93 * 256  # samples that the original's inverse STFT returns
    by_term = {name: term.double()(estimate, clean) for name, term in build_loss("GTCRN").terms.items()}
    weights = {name: 100.1 * weight for name, weight in build_loss("GTCRN").weights.items()}
    by_term["SI-SDR"] = TERMS["SI-SDR"]()(estimate[:, :whole], clean[:, :whole])
    value = sum(weights[name] * by_term[name] for name in weights)
    assert_is_original(value, REFERENCE["value/gtcrn_hybrid"])
    with pytest.raises(UserError, match=r"there is no 'GTCRN'; known: .*, GTCRN"):
        build_loss("GTCRN+LMS")


@pytest.mark.slow
def test_distillmos_is_the_packages_with_a_gradient():
    pytest.importorskip("distillmos")
    term = TERMS["DistillMOS"]().double()  # REFERENCE is float32, 2e-4 away
    estimate, clean = (x[1:] for x in reference_pair())
    estimate = torch.cat((estimate, torch.zeros_like(estimate))).requires_grad_()
    value = term(estimate, clean.repeat(2, 1))
    (gradient,) = torch.autograd.grad(value.sum(), estimate)
    assert value[0].item() == pytest.approx(-REFERENCE["value/distillmos"][1], abs=1e-5)
    norm = gradient[0].norm()
    assert norm.item() == pytest.approx(REFERENCE["gradient_norm/distillmos"][1], rel=5e-4)
    with torch.no_grad():
        step = 1e-7 * gradient[:1] / norm
        rise = term(estimate[:1] + step, clean) - term(estimate[:1] - step, clean)
    assert rise.item() / 2e-7 == pytest.approx(norm.item(), rel=1e-4)
    assert gradient.isfinite().all()
    assert not term.state_dict()


# -- metric-GAN --


def test_the_discriminator_is_cmgans():
    discriminator = Discriminator(channels=4).double().eval()
    renamed = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
    weights = {}
    for name in REFERENCE.files:
        layer, _, kind = name.removeprefix("discriminator/weights/").rpartition(".")
        if layer == "layers.18":
            weights["slope"] = torch.tensor(REFERENCE[name])
        elif layer.startswith("layers"):
            own = f"parametrizations.weight.{renamed[kind]}" if kind in renamed else kind
            weights[f"{layer}.{own}"] = torch.tensor(REFERENCE[name])
    discriminator.load_state_dict(weights)
    clean, estimate = (torch.tensor(REFERENCE[f"discriminator/{name}"]).double() for name in ("clean", "estimate"))
    estimate.requires_grad_()
    output = discriminator(torch.stack((clean, estimate), 1))
    assert_is_original(output.detach(), REFERENCE["discriminator/output"])
    of_clean = discriminator(torch.stack((clean, clean), 1)).detach()
    assert_is_original(of_clean, REFERENCE["discriminator/output_clean_clean"])
    (gradient,) = torch.autograd.grad((output - 1).square().mean(), estimate)
    assert gradient.norm().item() == pytest.approx(REFERENCE["discriminator/generator_gradient_norm"], rel=1e-5)


def test_metric_gan_learns_the_scores_of_items_that_have_one():
    torch.manual_seed(0)
    term = TERMS["metric-GAN"]()
    noisy, clean = (x.float() for x in voiced(3, batch=4))
    estimate = clean + torch.tensor([[0.1], [0.3], [1.0], [1.0]]) * (noisy - clean)
    clean[3] = 0  # PESQ fails
    optimizer = torch.optim.Adam(term.parameters(), 1e-3)
    errors = []
    with ScorePool(1) as term.pool:
        for _ in range(30):
            term(estimate, clean)
            error = term.compute_own_loss(estimate, clean, noisy)
            optimizer.zero_grad()
            error.mean().backward()
            optimizer.step()
            errors.append(error.detach())
    assert (torch.stack(errors)[:, 3] == 0).all()
    assert term.failed == 30
    assert errors[-1].mean() < 0.2 * errors[0].mean()
    wanted = [
        (pesq.pesq(16000, s.numpy(), e.numpy(), "wb") - 1) / 3.5
        for s, e in zip(clean[:3], estimate[:3], strict=True)
    ]
    predicted = 1 - term.eval()(estimate, clean).detach().sqrt()
    assert predicted[:3].tolist() == pytest.approx(wanted, abs=0.15)


def test_signals_of_different_shape_are_refused():
    with pytest.raises(UserError, match=r"'estimate': \[2, 5\], 'clean': \[2, 6\]"):
        TERMS["MSE"]()(torch.zeros(2, 5), torch.zeros(2, 6))
    with pytest.raises(UserError, match=r"'noisy': \['NoneType'\]"):
        build_loss("wSDR")(torch.zeros(2, 5), torch.zeros(2, 5))
