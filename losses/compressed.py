"""Losses that compare compressed spectra, c(X) = X |X|ᶜ⁻¹ with c = 0.3, and phases."""

import math

import torch
from torch import Tensor

from .registry import register
from .spectral import SILENCE, SpectralTerm, power

COMPRESSION = 0.3
LEVEL_FLOOR = 1e-4  # RMS; -80 dBFS
POWER_FLOOR = 1e-6  # -80 dB: a frame of a signal of RMS 1 has a power of about 100
RELATIVE_FLOOR = 1e-8  # of the clean speech's mean power; -80 dB


def compress(spectrum: Tensor, floor: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return c(X) and |X|ᶜ of a complex spectrum; `floor` is added to |X|² in both."""
    squared = power(spectrum) + floor
    factor = squared ** ((COMPRESSION - 1) / 2)
    return spectrum * factor, squared.sqrt() * factor


def compressed_distances(e: Tensor, s: Tensor, floor: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of |c(S) − c(E)|² and (|S|ᶜ − |E|ᶜ)² of spectra [B, F, T], [B] each."""
    (e, e_magnitude), (s, s_magnitude) = compress(e, floor), compress(s, floor)
    return power(s - e).mean((1, 2)), (s_magnitude - e_magnitude).square().mean((1, 2))


@register("compressed-complex", perceptual=True)
class CompressedComplexMSE(SpectralTerm):
    """Mean of |c(S) − c(E)|², c(X) = X |X|ᶜ⁻¹, c = 0.3, over frames and frequencies; FFT and window 512, hop 256.

    Source: Rong et al. 2024 ("GTCRN").
    """

    resolutions = ((512, 256, torch.hann_window(512).sqrt()),)

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        return compressed_distances(e, s, SILENCE)[0]


@register("compressed-magnitude", perceptual=True, invariances=("sign",))
class CompressedMagnitudeMSE(CompressedComplexMSE):
    """Mean of (|S|ᶜ − |E|ᶜ)², c = 0.3, over frames and frequencies; FFT and window 512, hop 256.

    Source: Rong et al. 2024 ("GTCRN").
    """

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        return compressed_distances(e, s, SILENCE)[1]


@register("PC-MSE", perceptual=True)
class PowerCompressedMSE(SpectralTerm):
    """0.7 (|S|ᶜ − |E|ᶜ)² + 0.3 |c(S) − c(E)|², c = 0.3, mean over frames of 20 ms and frequencies.

    Both signals are first divided by the RMS of the clean speech: quiet utterances count as much as loud ones.

    Source: Braun & Tashev 2020 ("Data augmentation and loss normalization for deep noise suppression").
    """

    resolutions = ((320, 160, 320),)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        level = (clean.square().mean(-1, keepdim=True) + LEVEL_FLOOR**2).sqrt()
        return super().compare(estimate / level, clean / level)

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        of_complex, of_magnitude = compressed_distances(e, s, POWER_FLOOR)
        return 0.3 * of_complex + 0.7 * of_magnitude


@register("asymmetric", perceptual=True, invariances=("sign",))
class AsymmetricMagnitude(PowerCompressedMSE):
    """Mean of max(|S|ᶜ − |E|ᶜ, 0)², c = 0.3: removed speech costs, added noise does not; spectra as for PC-MSE.

    Any louder estimate minimises it, so combine it. On noisy input it is 0.5% of PC-MSE, and it grows as a network
    suppresses: choose its weight there, not by first values or gradients.

    Source: Wang et al. 2020 ("VoiceFilter-Lite"); Eskimez et al. 2021 ("Human listening and live captioning").
    """

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        (_, e), (_, s) = compress(e, POWER_FLOOR), compress(s, POWER_FLOOR)
        return (s - e).clamp(min=0).square().mean((1, 2))


@register("MR-compressed", perceptual=True)
class MultiResolutionCompressed(SpectralTerm):
    """Mean over four STFTs of the means of 2000 (|S|ᶜ − |E|ᶜ)² + 1000 |c(S) − c(E)|², c = 0.3.

    Hann windows and FFT of n = 80, 160, 320 and 640 samples, a quarter of a window of hop, spectra divided by √n.
    The source has these durations at 48 kHz. Its floor, |X| ≥ 10⁻¹², has no gradient at a silent estimate and one
    of 10⁴ beside it; here |X|² + f, f = -80 dB of the clean speech's mean power, keeps it alive and bounded.

    Source: Schröter et al. 2023 ("DeepFilterNet: Perceptually motivated real-time speech enhancement").
    """

    resolutions = tuple((n, n // 4, torch.hann_window(n) / math.sqrt(n)) for n in (80, 160, 320, 640))

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
        floor = RELATIVE_FLOOR * power(s).mean((1, 2), keepdim=True) + SILENCE
        of_complex, of_magnitude = compressed_distances(e, s, floor)
        return 1000 * of_complex + 2000 * of_magnitude


@register("phase", perceptual=True, invariances=("scale", "offset"))
class Phase(SpectralTerm):
    """Mean |δ| plus the means of |differences of δ| over bins and over frames; δ = φS − φE, wrapped to 0 … π.

    Errors of instantaneous phase, group delay and instantaneous angular frequency; FFT and window 400, hop 100,
    Hann. Every bin counts alike, so silence sets most of the value; a delay of one sample makes the first error as
    large as random phases do. The gradient of a phase is 1 / |E|: here it fades for bins below -60 dB of the clean
    speech's mean power, where the source adds 10⁻⁵ to the real part. Silence has no phase, hence no gradient.

    Source: Ai & Ling 2023 ("Neural speech phase prediction"); Lu et al. 2023 ("MP-SENet").
    """

    resolutions = ((400, 100, 400),)
    weighted = False

    def distance(self, e: Tensor, s: Tensor) -> Tensor:
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
