"""FullSubNet: an LSTM over the whole band, and one that all bins share, which sees a bin and its neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .centred_stft import CentredSTFT
from .masks import hold_floor
from .registry import NetworkSettings, one_of, register, setting, whole

FFT, HOP = 512, 256
BINS = FFT // 2 + 1
NEIGHBOURS = 15  # bins on each side
FEATURES = 2 * NEIGHBOURS + 2  # of a bin: its neighbourhood and what the full band says of it
LIMIT, STEEPNESS = 10.0, 0.1  # of the compressed mask: K and C
LARGEST = 9.9  # compressed value; a larger one is taken as this
LEVEL_FLOOR = {"offline": 1e-5, "cumulative": torch.finfo(torch.float32).eps}
FIRST_MASK_STD = 0.005


@dataclass(frozen=True)
class FullSubNetSettings(NetworkSettings):
    """What can be chosen of FullSubNet; the defaults are the published network."""

    level: str = setting(
        "offline",
        one_of("offline", "cumulative"),
        "inputs are divided by their mean over the utterance, or over its past, which can stream",
    )
    full_units: int = setting(512, whole(1), "units of an LSTM layer over the whole band")
    sub_units: int = setting(384, whole(1), "units of an LSTM layer of a bin and its neighbours")
    look_ahead: int = setting(2, whole(0), "frames of 16 ms that are heard before a frame is estimated")


@register("FullSubNet", FullSubNetSettings)
class FullSubNet(nn.Module):
    """Noisy waveforms [B, samples] to estimated clean ones [B, samples], 16 kHz, [-1, 1], any length.

    A complex ratio mask from magnitudes, estimated in compressed form. Latency: the window of 32 ms and
    `look_ahead` hops of 16 ms, 64 ms; with level "offline", the whole utterance.

    Source: Hao et al., "FullSubNet: A Full-Band and Sub-Band Fusion Model for Real-Time Single-Channel Speech
    Enhancement", ICASSP 2021, arXiv 2010.15508.
    """

    floor = 0.0  # least gain of a cell of the spectrum

    def __init__(
        self, level: str = "offline", full_units: int = 512, sub_units: int = 384, look_ahead: int = 2
    ) -> None:
        super().__init__()
        self.level, self.look_ahead = level, look_ahead
        self.stft = CentredSTFT(torch.hann_window(FFT), HOP)
        self.full = nn.LSTM(BINS, full_units, 2)
        self.full_linear = nn.Linear(full_units, BINS)
        self.sub = nn.LSTM(FEATURES, sub_units, 2)
        self.sub_linear = nn.Linear(sub_units, 2)
        nn.init.normal_(self.sub_linear.weight, std=FIRST_MASK_STD)
        with torch.no_grad():  # a mask of one passes the input through
            self.sub_linear.bias.copy_(torch.tensor([LIMIT * math.tanh(STEEPNESS / 2), 0.0]))

    def forward(self, noisy: Tensor) -> Tensor:
        with torch.autocast(noisy.device.type, enabled=False):
            spectrum = self.stft(noisy.to(self.stft.window.dtype))  # [B, 257, T]
            magnitude = spectrum.abs()
        mask = decompress(self.estimate(magnitude).to(magnitude.dtype))
        estimate = hold_floor(spectrum * torch.complex(*mask.unbind(1)), spectrum, self.floor)
        return self.stft.inverse(estimate, noisy.shape[-1]).clamp(-1, 1)

    def estimate(self, magnitude: Tensor) -> Tensor:
        """Return the compressed mask, real and imaginary part [B, 2, 257, T], for magnitudes [B, 257, T]."""
        x = F.pad(magnitude, (0, self.look_ahead)).permute(2, 0, 1)  # [T, B, 257]
        band = self.full_linear(self.full(self._to_one_level(x[:, :, None])[:, :, 0])[0]).relu()
        y = self._to_one_level(join_neighbours(x, band))  # [T, B, 257, 32]
        mask = self.sub_linear(self.sub(y.flatten(1, 2))[0])  # [T, B * 257, 2]
        return mask.unflatten(1, y.shape[1:3]).permute(1, 3, 2, 0)[..., self.look_ahead :]

    def _to_one_level(self, x: Tensor) -> Tensor:
        """Return x, [T, B, N, features], divided by its mean."""
        if self.level == "offline":
            level = x.mean((0, 2, 3), keepdim=True)
        else:  # of the frames so far, of each of the N apart
            frames = torch.arange(1, len(x) + 1, device=x.device, dtype=x.dtype)
            level = x.mean(3, keepdim=True).cumsum(0) / frames[:, None, None, None]
        return x / (level + LEVEL_FLOOR[self.level])


def join_neighbours(x: Tensor, band: Tensor) -> Tensor:
    """Return what each bin is estimated from, [T, B, 257, 32].

    x: magnitudes [T, B, 257], of which a bin gets its own and its neighbours', mirrored at the band's ends.
    band: one more value for each bin, [T, B, 257].
    """
    padded = F.pad(x, (NEIGHBOURS, NEIGHBOURS), mode="reflect")
    return torch.cat([padded.unfold(2, 2 * NEIGHBOURS + 1, 1), band[..., None]], 3)


def decompress(mask: Tensor) -> Tensor:
    """Return the mask m of its compressed form K (1 - exp(-C m)) / (1 + exp(-C m))."""
    mask = mask.clamp(-LARGEST, LARGEST)
    return ((LIMIT + mask) / (LIMIT - mask)).log() / STEEPNESS
