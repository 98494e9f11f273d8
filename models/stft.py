"""Short-time Fourier transform and its inverse, in the convention of the published DCCRN."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class STFT(nn.Module):
    """Waveforms to spectra and back: periodic Hann window of 400 samples, hop 100, 512-point FFT.

    The windowed frame fills the first 400 of the 512 FFT points (`torch.stft` would centre it, which changes
    every phase), and `window - hop` zeros stand before and behind the waveform, so that each of its samples lies
    in as many frames as any other. The last hop is filled up with zeros, so that any length works.
    """

    window, hop, fft = 400, 100, 512
    bins = fft // 2 + 1

    def __init__(self) -> None:
        super().__init__()
        hann = torch.hann_window(self.window)  # periodic
        self.register_buffer("hann", hann, persistent=False)
        # Overlap-added squared window at each sample of a hop; it repeats, since the hop divides the window.
        self.register_buffer("overlap", hann.square().view(-1, self.hop).sum(0) + 1e-8, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the complex spectrum of [B, samples]: [B, bins, ceil(samples/hop) + window/hop - 1]."""
        check_waveforms(waveform)
        edge = self.window - self.hop
        fill = -waveform.shape[-1] % self.hop
        beyond = self.fft - self.window  # the last frame's FFT points past its window
        padded = F.pad(waveform, (edge, fill + edge + beyond))
        window = F.pad(self.hann, (0, beyond))
        return torch.stft(padded, self.fft, self.hop, window=window, center=False, return_complex=True)

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Return the waveform [B, samples] of [B, bins, frames]: the inverse of `forward` for that many samples.

        A frame is the least-squares solution over its 400 samples: the pseudo-inverse of the 400 x 514 matrix
        that maps them to 257 real and 257 imaginary parts. With K = fft/2, that matrix A has
        A'A = K I + e e' + o o' (e and o mark even and odd samples), whose inverse, by the Woodbury identity,
        takes from every sample the sum over its like-numbered samples divided by K + window/2. So an inverse
        FFT and two sums do the work of the matrix.
        """
        frames = torch.fft.irfft(self._double_edge_bins(spectrum), self.fft, dim=1)[:, : self.window]
        parity = frames.unflatten(1, (-1, 2))  # [B, window/2, even or odd, frames]
        frames = (parity - parity.sum(1, keepdim=True) / (self.fft // 2 + self.window // 2)).flatten(1, 2)
        pieces = (frames * self.hann[:, None]).unflatten(1, (-1, self.hop))  # [B, window/hop, hop, frames]
        count = pieces.shape[1]
        # Piece k of frame t belongs to hop t + k of the output.
        hops = sum(F.pad(pieces[:, k], (k, count - 1 - k)) for k in range(count))  # [B, hop, frames + count - 1]
        waveform = (hops / self.overlap[:, None]).transpose(1, 2).flatten(1)
        edge = self.window - self.hop
        return waveform[:, edge : edge + samples]

    def _double_edge_bins(self, spectrum: Tensor) -> Tensor:
        """Double DC and Nyquist: the bins between stand twice in a full spectrum, and A' weighs all bins alike."""
        weight = torch.ones(self.bins, 1, device=spectrum.device, dtype=spectrum.real.dtype)
        weight[0] = weight[-1] = 2
        return spectrum * weight


def check_waveforms(waveforms: Tensor) -> None:
    """Raise ValueError for another shape than [B, samples]."""
    if waveforms.ndim != 2:
        raise ValueError(
            f"noisy: found shape {list(waveforms.shape)}, expected [batch, samples]; one waveform is noisy[None]; "
            "tools.inference.enhance takes [samples] and [channels, samples] at any rate"
        )
