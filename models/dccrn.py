"""DCCRN: a complex convolutional encoder and decoder around a complex LSTM that estimate a complex ratio mask."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Positive

from .complex_layers import ComplexConv2d, ComplexConvTranspose2d, ComplexLSTM, Mask, apply_mask, join_parts
from .layers import ConvLayer, RealRecurrence, encode_and_decode
from .norms import NORMS, Norm
from .registry import Channels, EvenUnits, NetworkSettings, register
from .stft import STFT, SpectralNetwork
from .streaming.encoder_decoder import EncoderDecoderStep


@dataclass(frozen=True)
class DCCRNSettings(NetworkSettings):
    """Settings of DCCRN; the defaults are the published full network."""

    mask: Mask = "E"
    """How the output changes the noisy spectrum. E: magnitude through tanh, phases add; C: complex product; R:
    real and imaginary part separately; none: no mask, the network estimates the spectrum itself."""
    kernel_num: Channels = (32, 64, 128, 256, 256, 256)
    """Channels of each encoder layer, real and imaginary together."""
    rnn_units: EvenUnits = 256
    """Units of a recurrent layer, real and imaginary together."""
    rnn_layers: Positive = 2
    """Recurrent layers."""
    lstm: Literal["complex", "real"] = "complex"
    """complex: the complex product of two LSTMs a layer; real: one LSTM over all channels."""
    norm: Norm = "batch"
    """batch: batch norm of every channel; complex: 2 x 2 whitening of real and imaginary part."""
    skip: bool = True
    """Skip connections: each decoder layer also gets the output of the encoder layer of its size."""


@register("DCCRN", DCCRNSettings)
class DCCRN(SpectralNetwork):
    """Noisy waveforms [B, samples] to estimated clean ones [B, samples], 16 kHz, [-1, 1], any length.

    Masks: see `apply_mask`.

    Algorithmic latency: the window plus one hop for each decoder layer, 62.5 ms for the full network.
    Source: Hu et al., arXiv 2008.00264; computed as in the authors' code, docs/design.md lists the differences.
    """

    def __init__(self, **settings: Any) -> None:
        """Build the network with the values of DCCRNSettings that are given. Raises UserError."""
        super().__init__()
        own = DCCRNSettings(**settings)
        self.mask, self.skip = own.mask, own.skip
        self.suits_channels_last = own.norm == "batch"  # the complex norm would be slower
        self.stft = STFT()
        channels = [2, *own.kernel_num]
        frequencies = (self.stft.bins - 1) >> len(own.kernel_num)  # left after the encoder has halved them
        features = channels[-1] * frequencies
        norm_of = NORMS[own.norm]
        self.encoder = nn.ModuleList(ConvLayer(ComplexConv2d(i, o), norm_of(o)) for i, o in pairwise(channels))
        recurrence = {"complex": _ComplexRecurrence, "real": RealRecurrence}[own.lstm]
        self.recurrence = recurrence(features, own.rnn_units, own.rnn_layers)
        joined = 2 if self.skip else 1
        upward = list(pairwise(reversed(channels)))
        self.decoder = nn.ModuleList(
            [ConvLayer(ComplexConvTranspose2d(i * joined, o), norm_of(o)) for i, o in upward[:-1]]
            + [ComplexConvTranspose2d(upward[-1][0] * joined, 2)]
        )
        self.decoder[-1].start_at_pass_through(self.mask)

    def enhance(self, spectrum: Tensor) -> Tensor:
        parts = spectrum.real, spectrum.imag
        output = self.estimate(torch.stack(parts, 1)[:, :, 1:]).to(spectrum.real.dtype)
        output = F.pad(output, (0, 0, 1, 0))  # zero for DC, [B, 2, 257, T]
        return torch.complex(*apply_mask(self.mask, output.unbind(1), parts))

    def estimate(self, x: Tensor) -> Tensor:
        """Return the network's output for real and imaginary part without DC, both [B, 2, 256, T].

        It holds no complex tensors, which torch.compile does not support.
        """
        join = join_parts if self.skip else None
        return encode_and_decode(x, self.encoder, self.recurrence, self.decoder, join)

    def streaming_step(self, for_export: bool = False) -> EncoderDecoderStep:
        """Return the network hop by hop; see models/streaming."""
        return EncoderDecoderStep(self, lambda spectrum: spectrum, partial(apply_mask, self.mask), for_export)


class _ComplexRecurrence(nn.Module):
    """Complex LSTM layers over time, [B, C, F, T] to the same shape."""

    def __init__(self, features: int, units: int, layers: int) -> None:
        super().__init__()
        sizes = [features // 2] + [units // 2] * layers
        self.layers = nn.ModuleList(
            ComplexLSTM(sizes[n], sizes[n + 1], features // 2 if n == layers - 1 else None) for n in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = x.permute(3, 0, 1, 2).chunk(2, 2)  # each [T, B, C/2, F]
        real, imag = (part.flatten(2) for part in parts)  # each [T, B, C/2 * F]
        for layer in self.layers:
            real, imag = layer(real, imag)
        joined = torch.cat([real, imag], 2)  # [T, B, C * F]
        return joined.unflatten(2, x.shape[1:3]).permute(1, 2, 3, 0)
