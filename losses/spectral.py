"""Losses that compare spectra: at several resolutions, and with compressed magnitudes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import LossTerm, register

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # FFT, hop, window in samples
MAGNITUDE_FLOOR = 1e-8  # of a squared magnitude

COMPRESSION = 0.3
COMPLEX_SHARE = 0.3
FRAME, HOP = 320, 160  # samples, 20 and 10 ms
LEVEL_FLOOR = 1e-4  # RMS; -80 dBFS
POWER_FLOOR = 1e-6  # frames of a signal of RMS 1 have a power of about 100


@register("MR-STFT", perceptual=True, invariances=("sign",))
class MultiResolutionSTFT(LossTerm):
    """‖|S| − |E|‖ / ‖|S|‖ plus the mean of |ln |S| − ln |E||, over three STFTs (FFT 512, 1024, 2048).

    Hann windows of 240, 600 and 1200 samples, hops of 50, 120 and 240. Each utterance is computed as auraloss
    computes a batch of one; for larger batches, auraloss takes one norm over all utterances.

    Source: Yamamoto et al. 2020 ("Parallel WaveGAN"); Steinmetz & Reiss 2020 ("auraloss").
    """

    def __init__(self) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(STFT(*resolution) for resolution in RESOLUTIONS)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        distances = []
        for stft in self.transforms:
            e, s = (power(stft(x)).clamp(min=MAGNITUDE_FLOOR).sqrt() for x in (estimate, clean))  # [B, F, T]
            convergence = torch.linalg.matrix_norm(s - e) / torch.linalg.matrix_norm(s)
            distances.append(convergence + (s.log() - e.log()).abs().mean((1, 2)))
        return torch.stack(distances).mean(0)


@register("PC-MSE", perceptual=True)
class PowerCompressedMSE(LossTerm):
    """0.7 (|S|ᶜ − |E|ᶜ)² + 0.3 |S|S|ᶜ⁻¹ − E|E|ᶜ⁻¹|², c = 0.3, mean over frames of 20 ms and frequencies.

    Both signals are first divided by the RMS of the clean speech: quiet utterances count as much as loud ones.

    Source: Braun & Tashev 2020 ("Data augmentation and loss normalization for deep noise suppression").
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(FRAME, HOP, FRAME)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        level = (clean.square().mean(-1, keepdim=True) + LEVEL_FLOOR**2).sqrt()
        e, s = (self.stft(x / level) for x in (estimate, clean))  # [B, F, T], complex
        # A magnitude to the power of c is the length of the compressed spectrum: one power serves both parts.
        e_factor, s_factor = ((power(x) + POWER_FLOOR) ** ((COMPRESSION - 1) / 2) for x in (e, s))
        of_complex = power(s * s_factor - e * e_factor)
        of_magnitude = (_magnitude(s) * s_factor - _magnitude(e) * e_factor).square()
        return (COMPLEX_SHARE * of_complex + (1 - COMPLEX_SHARE) * of_magnitude).mean((1, 2))


class STFT(nn.Module):
    """[B, samples] to complex [B, fft / 2 + 1, frames]; zeros at both ends, so any length has a frame.

    window: its values, or the length of a Hann window.
    """

    def __init__(self, fft: int, hop: int, window: int | Tensor) -> None:
        super().__init__()
        window = torch.hann_window(window) if isinstance(window, int) else window
        self.fft, self.hop, self.length = fft, hop, len(window)
        self.register_buffer("window", window, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (self.fft // 2, self.fft // 2))
        window = self.window.to(x.dtype)
        return torch.stft(x, self.fft, self.hop, self.length, window, center=False, return_complex=True)


def power(spectrum: Tensor) -> Tensor:
    """Return the squared magnitude of a complex spectrum."""
    return spectrum.real.square() + spectrum.imag.square()


def _magnitude(spectrum: Tensor) -> Tensor:
    return (power(spectrum) + POWER_FLOOR).sqrt()
