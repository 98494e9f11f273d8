"""GTCRN: grouped temporal convolutions and a grouped dual-path RNN; 24,000 weights, no look-ahead."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from config import SAMPLE_RATE, Positive

from .gru import GroupedGRU, gru
from .layers import PReLU
from .registry import NetworkSettings, register
from .stft import CentredSTFT, MaskNetwork

FFT, HOP = 512, 256
BINS = FFT // 2 + 1
LOW, BANDS = 65, 64  # unchanged lower bins, and ERB bands of the other 192
WIDTH = 33  # bins after the encoder has halved 129 twice, rounding up
DILATIONS = (1, 2, 5)
START = (0.1, 1.5)  # initial scale of the last norm, and its bias for the mask's real part: tanh gives 0.905


@dataclass(frozen=True)
class GTCRNSettings(NetworkSettings):
    """Settings of GTCRN; the default is the published network."""

    channels: Annotated[int, Meta(ge=4, multiple_of=4)] = 16
    """Channels of every layer between the first and the last."""
    recurrences: Positive = 2
    """Dual-path RNNs, one after the other."""


@register("GTCRN", GTCRNSettings)
class GTCRN(MaskNetwork):
    """Grouped convolutions over time and a grouped dual-path RNN estimate a complex ratio mask.

    From magnitude, real and imaginary part of the spectrum. Latency: the window, 32 ms.

    Source: Rong et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources",
    ICASSP 2024.
    """

    gains_from_bf16 = False  # on a CPU: its layers are too small

    def __init__(self, **settings: Any) -> None:
        """Build the network with the values of GTCRNSettings that are given. Raises UserError."""
        super().__init__()
        sizes = GTCRNSettings(**settings)
        channels = sizes.channels
        self.stft = CentredSTFT(torch.hann_window(FFT).sqrt(), HOP)
        self.register_buffer("bands", erb_bands(), persistent=False)  # [64, 192]
        halving = (1, 5), (1, 2), (0, 2)  # kernel, stride and padding of a layer that halves the bins
        self.encoder = nn.ModuleList(
            [
                _layer(nn.Conv2d(9, channels, *halving), channels),
                _layer(nn.Conv2d(channels, channels, *halving, groups=2), channels),
                *(TemporalBlock(channels, dilation) for dilation in DILATIONS),
            ]
        )
        self.recurrences = nn.ModuleList(DualPathRNN(channels) for _ in range(sizes.recurrences))
        self.decoder = nn.ModuleList(
            [
                *(TemporalBlock(channels, dilation) for dilation in reversed(DILATIONS)),
                _layer(nn.ConvTranspose2d(channels, channels, *halving, groups=2), channels),
                _layer(nn.ConvTranspose2d(channels, 2, *halving), 2, last=True),
            ]
        )
        scale, bias = START
        norm = self.decoder[-1][1]
        nn.init.constant_(norm.weight, scale)
        nn.init.constant_(norm.bias[:1], bias)

    def initial_memory(self, batch: int) -> list[Tensor]:
        """Return the memory before the first frame, all zero."""
        layers = [layer for layer in self.modules() if isinstance(layer, (TemporalBlock, DualPathRNN))]
        return [self.bands.new_zeros(shape) for layer in layers for shape in layer.memory_shapes(batch)]

    def forward_frames(self, parts: Tensor, memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return masks as `apply_layers` does, and the memory after these frames; memory: before them."""
        before, after = iter(memory), []

        def apply(layer: nn.Module, x: Tensor) -> Tensor:
            if isinstance(layer, nn.Sequential):
                return layer(x)
            x, *following = layer(x, *(next(before) for _ in layer.memory_shapes(batch=1)))
            after.extend(following)
            return x

        magnitude = (parts.square().sum(1, keepdim=True) + 1e-12).sqrt()
        x = torch.cat([magnitude, parts], 1).transpose(2, 3)  # [B, 3, T, 257]
        x = torch.cat([x[..., :LOW], x[..., LOW:] @ self.bands.T], 3)  # [B, 3, T, 129]
        x = with_neighbours(x)
        skips = []
        for layer in self.encoder:
            x = apply(layer, x)  # [B, C, T, 65], then 33 bins
            skips.append(x)
        for layer in self.recurrences:
            x = apply(layer, x)
        for layer in self.decoder:
            x = apply(layer, x + skips.pop())
        x = torch.cat([x[..., :LOW], x[..., LOW:] @ self.bands], 3)  # [B, 2, T, 257]
        return x.transpose(2, 3), after


class TemporalBlock(nn.Module):
    """Passes half of the channels; convolves the others over bins and past frames and weights them over time.

    [B, C, T, F] to the same shape, with the two halves interleaved.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.past = 2 * dilation  # frames
        self.widen = _layer(nn.Conv2d(half, channels, (1, 3), padding=(0, 1)), channels)
        depth_wise = DepthWiseConv(channels, channels, 3, padding=(0, 1), dilation=(dilation, 1), groups=channels)
        self.depth = _layer(depth_wise, channels)
        self.narrow = nn.Sequential(nn.Conv2d(channels, half, 1), nn.BatchNorm2d(half))
        self.attention = nn.GRU(half, channels, batch_first=True)
        self.gate = nn.Linear(channels, half)

    def memory_shapes(self, batch: int) -> list[tuple[int, ...]]:
        """Return the shapes of earlier inputs of the depth-wise convolution, and of the attention's state."""
        channels = self.gate.in_features
        return [(batch, channels, self.past, WIDTH), (1, batch, channels)]

    def forward(self, x: Tensor, before: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        changed, passed = x.chunk(2, 1)
        y = torch.cat([before, self.widen(changed)], 2)
        before = y[:, :, -self.past :]
        y = self.narrow(self.depth(y))
        energy = y.square().mean(3).permute(2, 1, 0)  # [T, C / 2, B]
        attended, hidden = gru(energy, hidden, [w[None] for w in self.attention.all_weights[0]])
        gain = self.gate(attended.permute(2, 0, 1)).sigmoid().transpose(1, 2)[..., None]
        return torch.stack([y * gain, passed], 2).flatten(1, 2), before, hidden


class DepthWiseConv(nn.Conv2d):
    """A depth-wise convolution, dilated over frames. On a CPU, torch's gradient takes four times as long."""

    def forward(self, x: Tensor) -> Tensor:
        dilation, (batch, channels, frames, bins) = self.dilation[0], x.shape
        if dilation == 1 or x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        # As many frames as the dilation side by side, a zero after each: a frame's neighbours are above and below.
        x = F.pad(x, (0, 1, 0, -frames % dilation)).view(batch, channels, -1, dilation * (bins + 1))
        y = F.conv2d(x, self.weight, self.bias, padding=self.padding, groups=self.groups)
        return y.view(batch, channels, -1, bins + 1)[:, :, : frames - 2 * dilation, :-1].contiguous()


class DualPathRNN(nn.Module):
    """A grouped RNN over the bins of each frame, then one over the frames of each bin, both added to their input.

    [B, C, T, F] to the same shape; hidden: state of the RNN over frames.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.over_bins = GroupedGRU(channels, 2, both_ways=True)
        self.over_frames = GroupedGRU(channels, 2)
        self.linears = nn.ModuleList(nn.Linear(channels, channels) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm((WIDTH, channels), eps=1e-8) for _ in range(2))

    def memory_shapes(self, batch: int) -> list[tuple[int, ...]]:
        return [(1, batch * WIDTH, self.linears[0].in_features)]

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        x = x.permute(0, 2, 3, 1)  # [B, T, F, C]
        y = self.linears[0](self.over_bins(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        x = x + self.norms[0](y)
        across = x.transpose(1, 2)  # [B, F, T, C]
        y, hidden = self.over_frames.step(across.flatten(0, 1), hidden)
        y = self.linears[1](y).unflatten(0, across.shape[:2])
        return (x + self.norms[1](y.transpose(1, 2))).permute(0, 3, 1, 2), hidden


def with_neighbours(x: Tensor) -> Tensor:
    """Return the bin below, the bin and the bin above of each channel, [B, C, T, F] to [B, 3 C, T, F]."""
    padded = F.pad(x, (1, 1))
    return torch.stack([padded[..., k : k + x.shape[3]] for k in range(3)], 2).flatten(1, 2)


def erb_bands() -> Tensor:
    """Return the weights [64, 192] of triangular bands of the upper bins, evenly spaced on the ERB scale.

    The scale is 21.4 log10(0.00437 f + 1), f in Hz; the bands sum to one in every bin.
    """
    low, high = (21.4 * math.log10(0.00437 * f + 1) for f in (LOW / FFT * SAMPLE_RATE, SAMPLE_RATE / 2))
    hertz = (10 ** (np.linspace(low, high, BANDS) / 21.4) - 1) / 0.00437
    centres = (hertz / SAMPLE_RATE * FFT).round()  # in bins
    bands = [np.interp(np.arange(LOW, BINS), centres, own) for own in np.eye(BANDS)]
    return torch.tensor(np.array(bands), dtype=torch.float32)


def _layer(conv: nn.Module, channels: int, last: bool = False) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.Tanh() if last else PReLU())
