"""PMSQE: a differentiable approximation of PESQ."""

import torch
import torch.nn.functional as F
from torch import Tensor

from config import SAMPLE_RATE

from .registry import LossTerm, freeze_constants, register

FRAME, HOP = 512, 256  # samples
POWER_FLOOR = 1e-12  # -120 dB: silence counts as white noise of this power


@register("PMSQE", perceptual=True, invariances=("scale", "sign"))
class PMSQE(LossTerm):
    """Symmetric and asymmetric loudness disturbances after PESQ, on power spectra.

    Computed by `asteroid.losses.SingleSrcPMSQE` on power spectra (square-root Hann window of 512 samples, hop
    256), with its level, frequency and gain equalisation: the level of the estimate does not matter.

    Source: Martín-Doñas et al. 2018 ("A deep learning loss function based on the perceptual evaluation of the
    speech quality").
    """

    def __init__(self) -> None:
        super().__init__()
        from asteroid.losses import SingleSrcPMSQE  # takes seconds to import, and only this term needs it

        self.distance = freeze_constants(SingleSrcPMSQE(window_name="sqrt_hann", sample_rate=SAMPLE_RATE))
        self.register_buffer("window", torch.hann_window(FRAME).sqrt(), persistent=False)

    def compare(self, estimate: Tensor, clean: Tensor) -> Tensor:
        return self.distance(self._power(estimate), self._power(clean))

    def _power(self, waveform: Tensor) -> Tensor:
        """Return the power spectra of [B, samples], [B, frames, 257]; the last frame is padded with zeros."""
        waveform = waveform.to(self.window.dtype)  # asteroid's tables have this precision
        short = FRAME - waveform.shape[-1]
        fill = short if short > 0 else short % HOP
        spectrum = torch.stft(
            F.pad(waveform, (0, fill)), FRAME, HOP, window=self.window, center=False, return_complex=True
        )
        return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2) + POWER_FLOOR
