"""Losses on training targets: spectra, magnitudes, ratio masks and compressed spectra."""

import torch
from torch import Tensor

from .registry import LossTerm, register
from .spectral import STFT, power

FFT, HOP, WINDOW = 512, 100, 400  # samples, of DCCRN and CRN
MASK_HOP = 256  # of FullSubNet and GTCRN, with windows of 512
MASK_FLOOR = 1e-7  # of the noisy spectrum's power
MASK_LIMIT, STEEPNESS = 10.0, 0.1  # K and C
COMPRESSION = 0.3
SILENCE = 1e-12  # of a squared magnitude


@register("spectral-MSE")
class SpectralMSE(LossTerm):
    """Mean of ((Re S − Re E)² + (Im S − Im E)²) / 2 over frames and frequencies; FFT 512, window 400, hop 100.

    Source: direct mapping with DCCRN, github.com/seorim0/DNN-based-Speech-Enhancement-in-the-frequency-domain.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(FFT, HOP, WINDOW)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return power(self.stft(clean - estimate)).mean((1, 2)) / 2


@register("magnitude-MSE", perceptual=True, invariances=("sign",))
class MagnitudeMSE(SpectralMSE):
    """Mean of (|S| − |E|)² over frames and frequencies; FFT 512, window 400, hop 100.

    Source: direct mapping with CRN, github.com/seorim0/DNN-based-Speech-Enhancement-in-the-frequency-domain.
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        e, s = ((power(self.stft(x)) + SILENCE).sqrt() for x in (estimate, clean))
        return (s - e).square().mean((1, 2))


@register("cIRM-MSE", needs_noisy=True)
class MaskMSE(LossTerm):
    """Mean squared error of the compressed complex ratio mask: 10 tanh(m / 20) of both parts of S / X and E / X.

    FFT and window 512, hop 256, Hann.

    Source: Williamson et al. 2016 ("Complex ratio masking for monaural speech separation"); Hao et al. 2021
    ("FullSubNet").
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(FFT, MASK_HOP, FFT)

    def compare(self, estimate: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        x = self.stft(noisy)
        by_x = x.conj() / (power(x) + MASK_FLOOR)
        ours, ideal = (
            MASK_LIMIT * (torch.view_as_real(self.stft(y) * by_x) * (STEEPNESS / 2)).tanh()
            for y in (estimate, clean)
        )
        return (ideal - ours).square().mean((1, 2, 3))


@register("compressed-complex", perceptual=True)
class CompressedComplexMSE(LossTerm):
    """Mean of |S|S|ᶜ⁻¹ − E|E|ᶜ⁻¹|², c = 0.3, over frames and frequencies; FFT and window 512, hop 256.

    Source: Rong et al. 2024 ("GTCRN").
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(FFT, MASK_HOP, torch.hann_window(FFT).sqrt())

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        e, s = (x * (power(x) + SILENCE) ** ((COMPRESSION - 1) / 2) for x in map(self.stft, (estimate, clean)))
        return power(s - e).mean((1, 2))


@register("compressed-magnitude", perceptual=True, invariances=("sign",))
class CompressedMagnitudeMSE(CompressedComplexMSE):
    """Mean of (|S|ᶜ − |E|ᶜ)², c = 0.3, over frames and frequencies; FFT and window 512, hop 256.

    Source: Rong et al. 2024 ("GTCRN").
    """

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        e, s = ((power(self.stft(x)) + SILENCE) ** (COMPRESSION / 2) for x in (estimate, clean))
        return (s - e).square().mean((1, 2))
