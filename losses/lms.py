"""LMS: distance of log-mel spectra at three resolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from config import SAMPLE_RATE

from .registry import LossTerm, register

WINDOW, HOP, FFT = 400, 100, 512  # samples
BANDS = (16, 32, 64)
FLOOR = 1e-7


@register("LMS", perceptual=True, invariances=("sign",))
class LMS(LossTerm):
    """Log-mel distance: root mean square difference of log-mel spectra over 16, 32 and 64 bands.

    Magnitude spectra (Hann window of 400 samples, hop 100, 512-point FFT, divided by 512) pass HTK mel banks of
    16, 32 and 64 bands up to 8 kHz. The differences of their natural logarithms are averaged as root mean square
    over the bands of a frame, then over the frames and the three banks.

    Source: [P], after Kim et al. ("Multi-channel speech enhancement with log-mel loss"); docs/design.md says what
    [P]'s code computes instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", F.pad(torch.hann_window(WINDOW), (0, FFT - WINDOW)), persistent=False)
        banks = [
            melscale_fbanks(FFT // 2 + 1, 0.0, 8000.0, bands, SAMPLE_RATE, mel_scale="htk") for bands in BANDS
        ]
        self.register_buffer("banks", torch.cat(banks, 1), persistent=False)  # [257, 16 + 32 + 64]

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        difference = self._log_mel(estimate) - self._log_mel(clean)  # [B, frames, 112]
        distances = [(part.square().mean(-1) + FLOOR).sqrt().mean(-1) for part in difference.split(BANDS, -1)]
        return torch.stack(distances).mean(0)

    def _log_mel(self, waveform: Tensor) -> Tensor:
        # Zeros at both ends: every sample lies in the same number of frames, and any length has a frame.
        padded = F.pad(waveform, (WINDOW - HOP, FFT - HOP))
        window = self.window.to(waveform.dtype)
        spectrum = torch.stft(padded, FFT, HOP, window=window, center=False, return_complex=True)
        mel = spectrum.abs().transpose(1, 2) / FFT @ self.banks.to(waveform.dtype)
        return (mel + FLOOR).log()
