"""Losses that compare compressed spectra, c(X) = X |X|ᶜ⁻¹ with c = 0.3, and phases."""

import math

import torch
from torch import Tensor, nn

from .registry import LossTerm, register
from .spectral import SILENCE, STFT, power

COMPRESSION = 0.3
COMPLEX_SHARE = 0.3
FRAME, HOP = 320, 160  # samples, 20 and 10 ms
LEVEL_FLOOR = 1e-4  # RMS; -80 dBFS
POWER_FLOOR = 1e-6  # frames of a signal of RMS 1 have a power of about 100
WINDOWS = (80, 160, 320, 640)  # samples; 5 to 40 ms
RELATIVE_FLOOR = 1e-8  # of the clean speech's mean power; -80 dB


def compress(spectrum: Tensor, floor: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return c(X) and |X|ᶜ of a complex spectrum; `floor` is added to |X|² in both."""
    squared = power(spectrum) + floor
    factor = squared ** ((COMPRESSION - 1) / 2)
    return spectrum * factor, squared.sqrt() * factor


@register("compressed-complex", perceptual=True)
class CompressedComplexMSE(LossTerm):
    """Mean of |c(S) − c(E)|², c(X) = X |X|ᶜ⁻¹, c = 0.3, over frames and frequencies; FFT and window 512, hop 256.

    Source: Rong et al. 2024 ("GTCRN").
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(512, 256, torch.hann_window(512).sqrt())

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        (e, _), (s, _) = self._compressed(estimate, clean)
        return power(s - e).mean((1, 2))

    def _compressed(self, *signals: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [compress(self.stft(x), SILENCE) for x in signals]  # complex and magnitude, [B, F, T] each


@register("compressed-magnitude", perceptual=True, invariances=("sign",))
class CompressedMagnitudeMSE(CompressedComplexMSE):
    """Mean of (|S|ᶜ − |E|ᶜ)², c = 0.3, over frames and frequencies; FFT and window 512, hop 256.

    Source: Rong et al. 2024 ("GTCRN").
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        (_, e), (_, s) = self._compressed(estimate, clean)
        return (s - e).square().mean((1, 2))


@register("PC-MSE", perceptual=True)
class PowerCompressedMSE(LossTerm):
    """0.7 (|S|ᶜ − |E|ᶜ)² + 0.3 |c(S) − c(E)|², c = 0.3, mean over frames of 20 ms and frequencies.

    Both signals are first divided by the RMS of the clean speech: quiet utterances count as much as loud ones.

    Source: Braun & Tashev 2020 ("Data augmentation and loss normalization for deep noise suppression").
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(FRAME, HOP, FRAME)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        (e, e_magnitude), (s, s_magnitude) = self._compressed(estimate, clean)
        of_magnitude = (s_magnitude - e_magnitude).square()
        return (COMPLEX_SHARE * power(s - e) + (1 - COMPLEX_SHARE) * of_magnitude).mean((1, 2))

    def _compressed(self, estimate: Tensor, clean: Tensor) -> list[tuple[Tensor, Tensor]]:
        level = (clean.square().mean(-1, keepdim=True) + LEVEL_FLOOR**2).sqrt()
        return [compress(self.stft(x / level), POWER_FLOOR) for x in (estimate, clean)]


@register("asymmetric", perceptual=True, invariances=("sign",))
class AsymmetricMagnitude(PowerCompressedMSE):
    """Mean of max(|S|ᶜ − |E|ᶜ, 0)², c = 0.3: removed speech costs, added noise does not; spectra as for PC-MSE.

    Any louder estimate minimises it, so combine it. On noisy input it is 0.5% of PC-MSE, and it grows as a network
    suppresses: choose its weight there, not by first values or gradients.

    Source: Wang et al. 2020 ("VoiceFilter-Lite"); Eskimez et al. 2021 ("Human listening and live captioning").
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        (_, e), (_, s) = self._compressed(estimate, clean)
        return (s - e).clamp(min=0).square().mean((1, 2))


@register("MR-compressed", perceptual=True)
class MultiResolutionCompressed(LossTerm):
    """Sum over four STFTs of the means of 500 (|S|ᶜ − |E|ᶜ)² + 250 |c(S) − c(E)|², c = 0.3.

    Hann windows and FFT of n = 80, 160, 320 and 640 samples, a quarter of a window of hop, spectra divided by √n.
    The source has these durations at 48 kHz. Its floor, |X| ≥ 10⁻¹², has no gradient at a silent estimate and one
    of 10⁴ beside it; here |X|² + f, f = -80 dB of the clean speech's mean power, keeps it alive and bounded.

    Source: Schröter et al. 2023 ("DeepFilterNet: Perceptually motivated real-time speech enhancement").
    """

    def __init__(self) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(STFT(n, n // 4, torch.hann_window(n) / math.sqrt(n)) for n in WINDOWS)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        distances = []
        for stft in self.transforms:
            e, s = stft(estimate), stft(clean)  # [B, F, T]
            floor = RELATIVE_FLOOR * power(s).mean((1, 2), keepdim=True) + SILENCE
            (e, e_magnitude), (s, s_magnitude) = compress(e, floor), compress(s, floor)
            of_magnitude = (s_magnitude - e_magnitude).square()
            distances.append((500 * of_magnitude + 250 * power(s - e)).mean((1, 2)))
        return torch.stack(distances).sum(0)


@register("phase", perceptual=True, invariances=("scale", "offset"))
class Phase(LossTerm):
    """Mean |φS − φE| plus the means of its differences between neighbouring bins and frames, wrapped to 0 … π.

    Errors of instantaneous phase, group delay and instantaneous angular frequency; FFT and window 400, hop 100,
    Hann. Every bin counts alike, so silence sets most of the value; a delay of one sample makes the first error as
    large as random phases do. The gradient of a phase is 1 / |E|: here it fades for bins below -60 dB of the clean
    speech's mean power, where the source adds 10⁻⁵ to the real part. Silence has no phase, hence no gradient.

    Source: Ai & Ling 2023 ("Neural speech phase prediction"); Lu et al. 2023 ("MP-SENet").
    """

    weighted = False

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(400, 100, 400)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        e, s = self.stft(estimate), self.stft(clean)
        floor = 1e-6 * power(s).mean((1, 2), keepdim=True) + SILENCE
        error = s.angle() - _angle(e, floor)  # [B, F, T]
        weight = s.abs() if self.weighted else torch.ones_like(error)
        total = _mean_wrapped(error, weight)
        for dim in (1, 2):  # differences of neighbouring bins, of neighbouring frames
            pairs = error.shape[dim] - 1
            both = (weight.narrow(dim, 0, pairs) * weight.narrow(dim, 1, pairs)).sqrt()
            total = total + _mean_wrapped(error.diff(dim=dim), both)
        return total


@register("phase-weighted", perceptual=True, invariances=("scale",))
class WeightedPhase(Phase):
    """As phase, each of the three means weighted by |S|: loud bins count, silence does not.

    Source: this project; a weight by magnitude raised PESQ for vocoders (SCNet, Interspeech 2026).
    """

    weighted = True


def _angle(spectrum: Tensor, floor: Tensor) -> Tensor:
    """Return the angle of a complex tensor; its gradient is divided by at least `floor`, not by |X|² alone."""
    fixed = spectrum.detach()
    turned = (fixed.conj() * spectrum).imag  # zero, with the gradient of the angle times |X|²
    return fixed.angle() + turned / power(fixed).clamp(min=floor)


def _mean_wrapped(angle: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of |angle|, wrapped to 0 … π, of [B, F, T]; 0 if all weights are 0."""
    wrapped = (angle - 2 * math.pi * (angle / (2 * math.pi)).round()).abs()
    return (weight * wrapped).sum((1, 2)) / (weight.sum((1, 2)) + SILENCE)
