"""DCCRN: a complex convolutional encoder and decoder around a complex LSTM that estimate a complex ratio mask."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from config import Positive

from .complex_layers import ComplexConv2d, ComplexConvTranspose2d, ComplexLSTM, Mask, Parts, apply_mask, join_parts
from .encoder_decoder import Doubling, EncoderDecoder, Halving
from .layers import NORMS, Norm, RealRecurrence
from .registry import Channels, EvenUnits, NetworkSettings, register


@dataclass(frozen=True)
class DCCRNSettings(NetworkSettings):
    """Settings of DCCRN; the defaults are the published full network."""

    mask: Mask = "E"
    """How the output changes the noisy spectrum. E: magnitude through tanh, phases add; C: complex product; R:
    real and imaginary part separately; none: no mask, the output is added to the noisy spectrum."""
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
class DCCRN(EncoderDecoder):
    """A complex encoder and decoder around a complex LSTM estimate a complex ratio mask.

    Algorithmic latency: the window plus one hop for each decoder layer, 62.5 ms for the full network.

    Source: Hu et al., arXiv 2008.00264; computed as in the authors' code, docs/design.md lists the differences.
    """

    def __init__(self, **settings: Any) -> None:
        """Build the network with the values of DCCRNSettings that are given. Raises UserError."""
        own = DCCRNSettings(**settings)
        norm = NORMS[own.norm]
        recurrence = {"complex": _ComplexRecurrence, "real": RealRecurrence}[own.lstm]
        recurrence = partial(recurrence, units=own.rnn_units, layers=own.rnn_layers)
        super().__init__([2, *own.kernel_num], Conv, ConvTranspose, norm, recurrence, own.skip)
        self.mask = own.mask
        self.suits_channels_last = own.norm == "batch"  # the complex norm would be slower
        self.decoder[-1].start_at_pass_through(self.mask)

    @staticmethod
    def observe(spectrum: Tensor) -> Tensor:
        return spectrum

    def conclude(self, output: Tensor, spectrum: Tensor) -> Parts:
        return apply_mask(self.mask, output.unbind(0), spectrum.unbind(0))

    join = staticmethod(join_parts)


class Conv(Halving, ComplexConv2d):
    """See `Halving`."""


class ConvTranspose(Doubling, ComplexConvTranspose2d):
    """See `Doubling`."""


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
