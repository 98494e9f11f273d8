"""CRN: a real convolutional encoder and decoder around an LSTM that estimate magnitudes."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Positive

from .complex_layers import KERNEL, STRIDE, WEIGHT_STD, Parts, without_first_frame
from .layers import ConvLayer, RealRecurrence, encode_and_decode
from .registry import Channels, EvenUnits, NetworkSettings, register
from .stft import STFT, SpectralNetwork
from .streaming.encoder_decoder import EncoderDecoderStep

# Initial bias of the last layer. E: tanh gives 0.905; none: a small magnitude above zero.
START = {"E": 1.5, "none": 0.1}
FIRST_OUTPUT_STD = 0.005  # of the last layer's weights: the initial output is nearly its bias


@dataclass(frozen=True)
class CRNSettings(NetworkSettings):
    """Settings of CRN; the defaults are the published network."""

    mask: Literal["E", "none"] = "E"
    """E: the estimated magnitude is tanh(output) times the noisy one; none: it is the output itself."""
    kernel_num: Channels = (32, 64, 128, 256, 256, 256)
    """Channels of each encoder layer, counted as DCCRN's: the real layers have half of them."""
    rnn_units: EvenUnits = 256
    """Units of a recurrent layer, counted as DCCRN's: the real LSTM has half of them."""
    rnn_layers: Positive = 1
    """Recurrent layers."""
    skip: bool = True
    """Skip connections: each decoder layer also gets the output of the encoder layer of its size."""


@register("CRN", CRNSettings)
class CRN(SpectralNetwork):
    """Noisy waveforms [B, samples] to estimated clean ones [B, samples], 16 kHz, [-1, 1], any length.

    The real counterpart of DCCRN: it estimates the magnitude and keeps the noisy phase. Its layers have the size
    of one part of DCCRN's with the same settings. Latency as DCCRN, 62.5 ms with six layers.

    Source: github.com/seorim0/DNN-based-Speech-Enhancement-in-the-frequency-domain, after Tan & Wang, Interspeech
    2018.
    """

    suits_channels_last = True

    def __init__(self, **settings: Any) -> None:
        """Build the network with the values of CRNSettings that are given. Raises UserError."""
        super().__init__()
        own = CRNSettings(**settings)
        self.mask, self.skip = own.mask, own.skip
        self.stft = STFT()
        sizes = [1, *(number // 2 for number in own.kernel_num)]
        frequencies = (self.stft.bins - 1) >> len(own.kernel_num)  # left after the encoder has halved them
        self.encoder = nn.ModuleList(ConvLayer(Conv2d(i, o), nn.BatchNorm2d(o)) for i, o in pairwise(sizes))
        self.recurrence = RealRecurrence(sizes[-1] * frequencies, own.rnn_units // 2, own.rnn_layers)
        joined = 2 if self.skip else 1
        *upward, last = pairwise(reversed(sizes))
        self.decoder = nn.ModuleList(
            [ConvLayer(ConvTranspose2d(i * joined, o), nn.BatchNorm2d(o)) for i, o in upward]
            + [ConvTranspose2d(last[0] * joined, 1)]
        )
        nn.init.normal_(self.decoder[-1].weight, std=FIRST_OUTPUT_STD)
        nn.init.constant_(self.decoder[-1].bias, START[self.mask])

    def enhance(self, spectrum: Tensor) -> Tensor:
        magnitude = magnitude_of(spectrum.real, spectrum.imag)
        output = self.estimate(magnitude[:, None, 1:]).to(magnitude.dtype)[:, 0]
        return spectrum * gain_of(self.mask, F.pad(output, (0, 0, 1, 0)), magnitude)  # the gain of DC is zero

    def estimate(self, x: Tensor) -> Tensor:
        """Return the network's output for magnitudes without DC, [B, 1, 256, T] both."""
        return encode_and_decode(x, self.encoder, self.recurrence, self.decoder, _join if self.skip else None)

    def streaming_step(self, for_export: bool = False) -> EncoderDecoderStep:
        """Return the network hop by hop; see models/streaming."""
        mask = self.mask

        def observe(spectrum: Tensor) -> Tensor:
            return magnitude_of(*spectrum.unbind(0))[None]

        def conclude(output: Tensor, spectrum: Tensor) -> Parts:
            return (spectrum * gain_of(mask, output, observe(spectrum))).unbind(0)

        return EncoderDecoderStep(self, observe, conclude, for_export)


def magnitude_of(real: Tensor, imag: Tensor) -> Tensor:
    """Return the magnitude of a spectrum, with a floor above zero so that it can be divided by."""
    return (real.square() + imag.square() + 1e-16).sqrt()


def gain_of(mask: str, output: Tensor, magnitude: Tensor) -> Tensor:
    """Return the gain to apply to the noisy spectrum, given the network's output and the noisy magnitude."""
    return output.tanh() if mask == "E" else output / magnitude


class Conv2d(nn.Conv2d):
    """Convolution that halves the frequencies, causal in time: [B, inputs, F, T] to [B, outputs, F/2, T]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, (KERNEL[0] // 2, 0))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=WEIGHT_STD)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (KERNEL[1] - 1, 0)))


class ConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution that doubles the frequencies, with one frame of look-ahead.

    [B, inputs, F, T] to [B, outputs, 2F, T].
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, (KERNEL[0] // 2, 0), (STRIDE[0] - 1, 0))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=WEIGHT_STD)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return without_first_frame(super().forward(x))


def _join(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([x, skip], 1)
