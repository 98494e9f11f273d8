"""Short-time Fourier transform with centred frames, as torch.stft computes it by default."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stft import check_waveforms

LEAST_OVERLAP = 0.01  # of the squared windows that lie over a sample


class CentredSTFT(nn.Module):
    """Waveforms [B, samples] to spectra and back: frames of `fft` samples every `hop`, the first around sample 0.

    Beyond its ends a waveform is mirrored; one shorter than half a frame is filled with zeros first.
    window: the [fft] values that a frame is multiplied by, before the transform and after its inverse.
    """

    def __init__(self, window: Tensor, hop: int) -> None:
        super().__init__()
        self.fft, self.hop = len(window), hop
        self.bins = self.fft // 2 + 1
        self.register_buffer("window", window, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the complex spectrum of [B, samples], [B, bins, samples // hop + 1]."""
        check_waveforms(waveform)
        waveform = F.pad(waveform, (0, max(0, self.bins - waveform.shape[-1])))
        return torch.stft(waveform, self.fft, self.hop, window=self.window, return_complex=True)

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Return the waveform [B, samples] of a spectrum [B, bins, frames].

        As torch.istft, but for samples under the far end of the last frame alone: what would be divided by next to
        nothing, a click of any height in a changed spectrum, fades out over some samples.
        """
        frames = torch.fft.irfft(spectrum, self.fft, dim=1) * self.window[:, None]
        pieces = frames.unflatten(1, (-1, self.hop))  # [B, fft/hop, hop, frames]
        squares = self.window.square().view(-1, self.hop, 1).expand(-1, -1, pieces.shape[3])
        waveform = self._overlap(pieces) / self._overlap(squares[None]).clamp(min=LEAST_OVERLAP)
        waveform = waveform.transpose(1, 2).flatten(1)
        return waveform[:, self.fft // 2 :][:, :samples]

    @staticmethod
    def _overlap(pieces: Tensor) -> Tensor:
        """Add what the frames give to each hop, [B, count, hop, frames] to [B, hop, frames + count - 1]."""
        count = pieces.shape[1]  # piece k of frame t belongs to hop t + k
        return sum(F.pad(pieces[:, k], (k, count - 1 - k)) for k in range(count))
