"""Base losses, which compare waveforms: sample errors and energy ratios."""

import math

import torch.nn.functional as F
from torch import Tensor

from .registry import LossTerm, register

ENERGY_FLOOR = 1e-12  # keeps ratios finite for silence; a millionth of one sample at -60 dBFS
RATIO_FLOOR = 1e-8  # no ratio is below -80 dB
KNEE = 0.01  # of log-cosh: -40 dBFS, in the range of errors in speech
HIGHEST_SNR = 30.0  # dB
NOISE_FLOOR = 1e-4  # of the energy of x − e, relative to that of the noise


@register("MSE")
class MSE(LossTerm):
    """Mean of (e − s)²."""

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return (estimate - clean).square().mean(-1)


@register("L1")
class L1(LossTerm):
    """Mean of |e − s|."""

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return (estimate - clean).abs().mean(-1)


@register("log-cosh")
class LogCosh(LossTerm):
    """Mean of k ln cosh((e − s) / k), k = 0.01: a squared error where it is small, |e − s| where it is large.

    With the usual k = 1, errors of a tenth of full scale would still count as small: the loss would be MSE / 2.

    Source: Chen et al. 2019 ("Log hyperbolic cosine loss improves variational auto-encoder").
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        z = (estimate - clean).abs() / KNEE
        return KNEE * (z + F.softplus(-2 * z) - math.log(2)).mean(-1)


@register("SDR")
class SDR(LossTerm):
    """10 log₁₀ (Σ s² / Σ (s − e)²), in negative dB."""

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return -_decibels(_energy(clean), _energy(clean - estimate))


@register("SNR")
class SNR(LossTerm):
    """SDR with a soft threshold: 10 log₁₀ (Σ s² / (Σ (s − e)² + t Σ s²)), t = 10⁻³, so 30 dB at most.

    Its gradient vanishes for nearly clean estimates, so that they do not dominate the training.

    Source: Wisdom et al. 2020 ("Unsupervised sound separation using mixture invariant training").
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        signal = _energy(clean)
        return -_decibels(signal, _energy(clean - estimate) + 10 ** (-HIGHEST_SNR / 10) * signal)


@register("SI-SDR", invariances=("scale", "sign"))
class SISDR(LossTerm):
    """10 log₁₀ (Σ (a s)² / Σ (e − a s)²), a = ⟨e, s⟩ / ⟨s, s⟩, in negative dB.

    Source: Le Roux et al. 2019 ("SDR – half-baked or well done?").
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        scale = (estimate * clean).sum(-1, keepdim=True) / (clean.square().sum(-1, keepdim=True) + ENERGY_FLOOR)
        target = scale * clean
        return -_decibels(_energy(target), _energy(estimate - target))


@register("SI-SNR", invariances=("scale", "sign", "offset"))
class SISNR(SISDR):
    """SI-SDR of both signals without their means.

    Source: Luo & Mesgarani 2018 ("TasNet").
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return super().compare(_without_mean(estimate), _without_mean(clean))


@register("signed-SI-SNR", invariances=("scale", "offset"))
class SignedSISNR(SDR):
    """SI-SNR that sees the sign: the SDR of e and s without their means, each brought to an energy of one.

    With r the correlation of e and s it is −10 log₁₀ (2 − 2r), and SI-SNR 10 log₁₀ (r² / (1 − r²)): nearly equal
    for good estimates (0.3 dB apart at 10 dB), but it falls from r = 1 to −1, while SI-SNR rises again below 0.

    Source: this project.
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return super().compare(*(_with_unit_energy(_without_mean(x)) for x in (estimate, clean)))


@register("wSDR", needs_noisy=True)
class WeightedSDR(LossTerm):
    """−a cos(e, s) − (1 − a) cos(x − e, x − s), a = Σ s² / (Σ s² + Σ (x − s)²), cos(u, v) = ⟨u, v⟩ / (‖u‖ ‖v‖).

    Speech and noise are weighted by their energies; −1 is the lowest value. The energy of x − e is at least 10⁻⁴
    of the noise's: a network that starts by passing its input through would get an unbounded gradient.

    Source: Choi et al. 2019 ("Phase-aware speech enhancement with deep complex U-Net").
    """

    def compare(self, estimate: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        noise = noisy - clean
        speech_energy, noise_energy = (x.square().sum(-1, keepdim=True) for x in (clean, noise))
        share = (speech_energy / (speech_energy + noise_energy + ENERGY_FLOOR))[:, 0]
        of_speech = _with_unit_energy(estimate) * _with_unit_energy(clean)
        of_noise = _with_unit_energy(noisy - estimate, NOISE_FLOOR * noise_energy) * _with_unit_energy(noise)
        return -share * of_speech.sum(-1) - (1 - share) * of_noise.sum(-1)


def _decibels(signal: Tensor, noise: Tensor) -> Tensor:
    """Return the ratio of two energies in dB."""
    return 10 * (signal / (noise + ENERGY_FLOOR) + RATIO_FLOOR).log10()


def _energy(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def _with_unit_energy(x: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    return x * (x.square().sum(-1, keepdim=True) + floor + ENERGY_FLOOR).rsqrt()


def _without_mean(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)
