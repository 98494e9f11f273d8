"""The transform and its inverse hop by hop, as real matrix products."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..stft import STFT


class StreamingSTFT(nn.Module):
    """The matrices of an `STFT` and its inverse for one frame."""

    def __init__(self, stft: STFT) -> None:
        super().__init__()
        self.hop = stft.hop
        self.past = stft.window // stft.hop - 1  # hops of a frame before the newest
        exact = copy.deepcopy(stft).double()
        edge = stft.window - stft.hop
        # Their rows: the middle frame of waveforms with one nonzero sample, and spectra with one nonzero number.
        samples = torch.eye(stft.window, dtype=torch.float64, device=stft.hann.device)
        spectra = exact(samples)[:, :, self.past]  # [window, bins]
        self.register_buffer("analysis", torch.cat([spectra.real, spectra.imag], 1).to(stft.hann.dtype))
        numbers = torch.eye(2 * stft.bins, dtype=torch.float64, device=stft.hann.device)
        frames = F.pad(torch.complex(*numbers.chunk(2, 1))[:, :, None], (self.past, self.past))
        self.register_buffer("synthesis", exact.inverse(frames, edge + stft.hop).to(stft.hann.dtype))

    def forward(self, hops: Tensor) -> Tensor:
        """Transform hops [B, past + T, hop] to spectra [2, B, T, bins]."""
        frames = torch.cat([hops[:, k : k - self.past or None] for k in range(self.past + 1)], 2)
        return torch.matmul(frames, self.analysis).unflatten(2, (2, -1)).movedim(2, 0)

    def pieces(self, spectra: Tensor) -> Tensor:
        """Transform spectra [2, B, T, bins] to [B, T, window/hop, hop]: what each frame adds to its hops."""
        return torch.matmul(spectra.movedim(0, 2).flatten(2), self.synthesis).unflatten(2, (-1, self.hop))

    def overlap_add(self, pieces: Tensor) -> Tensor:
        """Return the T complete hops [B, T, hop] of pieces [B, past + T, window/hop, hop] of past + T frames."""
        return sum(pieces[:, self.past - k : -k or None, k] for k in range(self.past + 1))
