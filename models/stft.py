"""Networks on spectra, and their transforms: that of the published DCCRN, and one with centred frames."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_OVERLAP = 0.01  # of the squared windows that lie over a sample


class SpectralNetwork(nn.Module):
    """Base of networks on spectra: waveforms [B, samples] to estimates of that shape, for any length.

    `stft` is one of the transforms below. `--compile True` compiles a method `apply_layers`, which `enhance` calls
    for all that works on real tensors.
    """

    def forward(self, noisy: Tensor) -> Tensor:
        with torch.autocast(noisy.device.type, enabled=False):
            spectrum = self.stft(noisy)
        return self.stft.inverse(self.enhance(spectrum), noisy.shape[-1]).clamp(-1, 1)

    def enhance(self, spectrum: Tensor) -> Tensor:
        """Return the estimated spectrum of a noisy one, complex [B, bins, T]."""
        raise NotImplementedError


class MaskNetwork(SpectralNetwork):
    """Base of networks on a `CentredSTFT` that estimate a complex mask frame by frame, and so can stream.

    `forward_frames(parts, memory)` returns real and imaginary part of masks, given those of the noisy spectrum,
    [B, 2, bins, T] both, delayed by `look_ahead` frames, and the memory after these frames. A memory is a list of
    tensors; before the first frame it is `initial_memory(batch)`, all zero.
    """

    look_ahead = 0  # frames

    def enhance(self, spectrum: Tensor) -> Tensor:
        mask = self.apply_layers(torch.stack([spectrum.real, spectrum.imag], 1)).to(spectrum.real.dtype)
        return spectrum * torch.complex(*mask.unbind(1))

    def apply_layers(self, parts: Tensor) -> Tensor:
        """Return the mask of a whole spectrum, without delay."""
        parts = F.pad(parts, (0, self.look_ahead))
        return self.forward_frames(parts, self.initial_memory(parts.shape[0]))[0][..., self.look_ahead :]

    def streaming_step(self, for_export: bool = False) -> nn.Module:
        """Return the network hop by hop; see models/streaming."""
        from .streaming.centred import CentredStep

        return CentredStep(self, for_export)


class STFT(nn.Module):
    """Waveforms to spectra and back as in the published DCCRN: a periodic Hann window of 400, hop 100, FFT of 512.

    The windowed frame fills the first 400 of the 512 FFT points (`torch.stft` would centre it, which changes
    every phase). The waveform is padded with `window - hop` zeros at both ends, so that each sample lies in the
    same number of frames, and with zeros to a whole number of hops, so that any length works.
    """

    window, hop, fft = 400, 100, 512
    bins = fft // 2 + 1

    def __init__(self) -> None:
        super().__init__()
        hann = torch.hann_window(self.window)  # periodic
        self.register_buffer("hann", hann, persistent=False)
        # Overlap-added squared window at each sample of a hop; it is periodic, since the hop divides the window.
        self.register_buffer("overlap", hann.square().view(-1, self.hop).sum(0) + 1e-8, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the complex spectrum of [B, samples]: [B, bins, ceil(samples/hop) + window/hop - 1]."""
        check_waveforms(waveform)
        edge = self.window - self.hop
        fill = -waveform.shape[-1] % self.hop
        beyond = self.fft - self.window  # the last frame's FFT points past its window
        padded = F.pad(waveform.to(self.hann.dtype), (edge, fill + edge + beyond))
        window = F.pad(self.hann, (0, beyond))
        return torch.stft(padded, self.fft, self.hop, window=window, center=False, return_complex=True)

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Return the waveform [B, samples] of [B, bins, frames]: the inverse of `forward` for that many samples.

        A frame is the least-squares solution over its 400 samples: the pseudo-inverse of the matrix A that maps
        them to 257 real and 257 imaginary parts. With K = fft/2, A'A = K I + e e' + o o' (e and o are the
        indicators of even and odd samples). By the Woodbury identity, its inverse subtracts from every sample the
        sum over the samples of the same parity divided by K + window/2: an inverse FFT and two sums suffice.
        """
        # DC and Nyquist twice: a full spectrum holds the other bins twice, but A' weights all bins equally.
        weight = torch.ones(self.bins, 1, device=spectrum.device, dtype=spectrum.real.dtype)
        weight[0] = weight[-1] = 2
        frames = torch.fft.irfft(spectrum * weight, self.fft, dim=1)[:, : self.window]
        parity = frames.unflatten(1, (-1, 2))  # [B, window/2, even or odd, frames]
        frames = (parity - parity.sum(1, keepdim=True) / (self.fft // 2 + self.window // 2)).flatten(1, 2)
        hops = (frames * self.hann[:, None]).unflatten(1, (-1, self.hop))  # [B, window/hop, hop, frames]
        waveform = (overlap_add(hops) / self.overlap[:, None]).transpose(1, 2).flatten(1)
        edge = self.window - self.hop
        return waveform[:, edge : edge + samples]


class CentredSTFT(nn.Module):
    """Waveforms [B, samples] to spectra and back, with centred frames, the default of torch.stft.

    Frames have `fft` samples, one every `hop`, the first centred at sample 0. The waveform is mirrored beyond
    its ends; one shorter than half a frame is padded with zeros first.
    window: [fft] values, applied before the transform and after its inverse.
    """

    def __init__(self, window: Tensor, hop: int) -> None:
        super().__init__()
        self.fft, self.hop = len(window), hop
        self.bins = self.fft // 2 + 1
        self.register_buffer("window", window, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the complex spectrum of [B, samples], [B, bins, samples // hop + 1]."""
        check_waveforms(waveform)
        waveform = F.pad(waveform.to(self.window.dtype), (0, max(0, self.bins - waveform.shape[-1])))
        return torch.stft(waveform, self.fft, self.hop, window=self.window, return_complex=True)

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Return the waveform [B, samples] of a spectrum [B, bins, frames].

        As torch.istft, except for the last samples, which only the end of the last frame covers: torch.istft
        divides them by nearly zero, which can give a click of any height; here they fade out.
        """
        frames = torch.fft.irfft(spectrum, self.fft, dim=1) * self.window[:, None]
        hops = frames.unflatten(1, (-1, self.hop))  # [B, fft/hop, hop, frames]
        squares = self.window.square().view(-1, self.hop, 1).expand(-1, -1, hops.shape[3])
        waveform = overlap_add(hops) / overlap_add(squares[None]).clamp(min=LEAST_OVERLAP)
        waveform = waveform.transpose(1, 2).flatten(1)
        return waveform[:, self.fft // 2 :][:, :samples]


def overlap_add(hops: Tensor) -> Tensor:
    """Return the hops [B, hop, frames + count - 1] of frames cut into hops, [B, count, hop, frames]."""
    count = hops.shape[1]  # hop k of frame t is added to hop t + k
    return sum(F.pad(hops[:, k], (k, count - 1 - k)) for k in range(count))


def check_waveforms(waveforms: Tensor) -> None:
    """Raise ValueError for another shape than [B, samples]."""
    if waveforms.ndim != 2:
        raise ValueError(
            f"noisy: found shape {list(waveforms.shape)}, expected [batch, samples]; one waveform is noisy[None]; "
            "tools.inference.enhance takes [samples] and [channels, samples] at any rate"
        )
