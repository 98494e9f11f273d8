"""Base losses, which compare waveforms: MSE and the ratios in decibels."""

from __future__ import annotations

from torch import Tensor

from .registry import LossTerm, register

ENERGY_FLOOR = 1e-12  # keeps ratios finite for silence; a millionth of one sample at -60 dBFS
RATIO_FLOOR = 1e-8  # no ratio is below -80 dB


@register("MSE")
class MSE(LossTerm):
    """Mean square error of the samples."""

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return (estimate - clean).square().mean(-1)


@register("SDR")
class SDR(LossTerm):
    """Signal-to-distortion ratio, in negative dB: the energy of clean over that of the difference."""

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return -_decibels(clean, clean - estimate)


@register("SI-SDR")
class SISDR(LossTerm):
    """Scale-invariant SDR, in negative dB (Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019)."""

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        scale = (estimate * clean).sum(-1, keepdim=True) / (clean.square().sum(-1, keepdim=True) + ENERGY_FLOOR)
        target = scale * clean
        return -_decibels(target, estimate - target)


@register("SI-SNR")
class SISNR(SISDR):
    """Scale-invariant SNR, in negative dB: SI-SDR without the means (Luo & Mesgarani, "TasNet", ICASSP 2018)."""

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return super().compare(_without_mean(estimate), _without_mean(clean))


def _decibels(signal: Tensor, noise: Tensor) -> Tensor:
    """Energy of signal over energy of noise in dB, [B, samples] twice to [B]."""
    ratio = signal.square().sum(-1) / (noise.square().sum(-1) + ENERGY_FLOOR)
    return 10 * (ratio + RATIO_FLOOR).log10()


def _without_mean(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)
