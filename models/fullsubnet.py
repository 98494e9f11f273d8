"""FullSubNet: a full-band LSTM, and a sub-band LSTM over each bin and its neighbours, shared by all bins."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from config import Count, Positive

from .registry import NetworkSettings, register
from .stft import CentredSTFT, MaskNetwork

FFT, HOP = 512, 256
BINS = FFT // 2 + 1
NEIGHBOURS = 15  # bins on each side
FEATURES = 2 * NEIGHBOURS + 2  # of a bin: its neighbourhood and the full-band output for it
LIMIT, STEEPNESS = 10.0, 0.1  # of the compressed mask: K and C
LARGEST = 9.9  # compressed values are clamped to this
LEVEL_FLOOR = {"offline": 1e-5, "cumulative": torch.finfo(torch.float32).eps}
FIRST_MASK_STD = 0.005


@dataclass(frozen=True)
class FullSubNetSettings(NetworkSettings):
    """Settings of FullSubNet; the defaults are the published network."""

    normalisation: Literal["offline", "cumulative"] = "offline"
    """What inputs are divided by: their mean over the utterance (offline), or over its past, which can stream."""
    full_units: Positive = 512
    """Units of an LSTM layer over the whole band."""
    sub_units: Positive = 384
    """Units of an LSTM layer over a bin and its neighbours."""
    look_ahead: Count = 2
    """Future frames of 16 ms that the estimate of a frame uses."""


@register("FullSubNet", FullSubNetSettings)
class FullSubNet(MaskNetwork):
    """A full-band LSTM, then a sub-band LSTM over each bin and its neighbours, estimate a complex ratio mask.

    From magnitudes, in compressed form. Latency: the window of 32 ms and `look_ahead` hops of 16 ms, 64 ms; with
    offline normalisation, the whole utterance.

    Source: Hao et al., "FullSubNet: A Full-Band and Sub-Band Fusion Model for Real-Time Single-Channel Speech
    Enhancement", ICASSP 2021, arXiv 2010.15508.
    """

    def __init__(self, **settings: Any) -> None:
        """Build the network with the values of FullSubNetSettings that are given. Raises UserError."""
        super().__init__()
        own = FullSubNetSettings(**settings)
        self.normalisation, self.look_ahead = own.normalisation, own.look_ahead
        self.stft = CentredSTFT(torch.hann_window(FFT), HOP)
        around = torch.arange(BINS)[:, None] + torch.arange(-NEIGHBOURS, NEIGHBOURS + 1)  # [257, 31]
        around = BINS - 1 - (BINS - 1 - around.abs()).abs()  # mirrored at the band's ends
        self.register_buffer("neighbours", around, persistent=False)
        self.full = nn.LSTM(BINS, own.full_units, 2)
        self.full_linear = nn.Linear(own.full_units, BINS)
        self.sub = nn.LSTM(FEATURES, own.sub_units, 2)
        self.sub_linear = nn.Linear(own.sub_units, 2)
        nn.init.normal_(self.sub_linear.weight, std=FIRST_MASK_STD)
        with torch.no_grad():  # a mask of one passes the input through
            self.sub_linear.bias.copy_(torch.tensor([LIMIT * math.tanh(STEEPNESS / 2), 0.0]))

    @property
    def streams(self) -> bool:
        """Return whether the network can be computed block by block."""
        return self.normalisation == "cumulative"

    def initial_memory(self, batch: int) -> list[Tensor]:
        """Return the memory before the first frame, all zero.

        It holds the number of frames, sums of their levels (full band and each bin), and the states of both LSTMs.
        """
        hidden = [(2, n, lstm.hidden_size) for n, lstm in ((batch, self.full), (batch * BINS, self.sub))]
        shapes = [(1,), (batch, 1), (batch, BINS), hidden[0], hidden[0], hidden[1], hidden[1]]
        return [self.stft.window.new_zeros(shape) for shape in shapes]

    def forward_frames(self, parts: Tensor, memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return masks as `apply_layers` does, delayed by `look_ahead` frames, and the memory after them."""
        frames, full_sum, sub_sum, full_hidden, full_cell, sub_hidden, sub_cell = memory
        real, imag = parts.unbind(1)
        x = (real.square() + imag.square() + 1e-20).sqrt().permute(2, 0, 1)  # [T, B, 257]
        frames = frames + torch.arange(1, x.shape[0] + 1, device=x.device, dtype=x.dtype)
        y, full_sum = self._to_one_level(x[:, :, None], full_sum, frames)
        band, full_memory = self.full(y[:, :, 0], (full_hidden, full_cell))
        band = self.full_linear(band).relu()  # [T, B, 257]
        y = torch.cat([x[..., self.neighbours], band[..., None]], 3)  # neighbours and full-band output of each bin
        y, sub_sum = self._to_one_level(y, sub_sum, frames)
        mask, sub_memory = self.sub(y.flatten(1, 2), (sub_hidden, sub_cell))  # [T, B * 257, units]
        mask = self.sub_linear(mask).to(x.dtype).unflatten(1, y.shape[1:3]).permute(1, 3, 2, 0)
        return decompress(mask), [frames[-1:], full_sum, sub_sum, *full_memory, *sub_memory]

    def _to_one_level(self, x: Tensor, before: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return x, [T, B, N, features], divided by its mean, and the sum of its levels so far, [B, N].

        before: that sum before these frames. frames: number of frames up to each of them, [T].
        """
        if self.normalisation == "offline":
            return x / (x.mean((0, 2, 3), keepdim=True) + LEVEL_FLOOR[self.normalisation]), before
        sums = before + x.mean(3).cumsum(0)  # [T, B, N]
        level = sums / frames[:, None, None]
        return x / (level[..., None] + LEVEL_FLOOR[self.normalisation]), sums[-1]


def decompress(mask: Tensor) -> Tensor:
    """Return the mask m, given its compressed form K (1 - exp(-C m)) / (1 + exp(-C m))."""
    mask = mask.clamp(-LARGEST, LARGEST)
    return ((LIMIT + mask) / (LIMIT - mask)).log() / STEEPNESS
