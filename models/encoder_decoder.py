"""The structure of DCCRN and CRN: an encoder over frequency, a recurrence over time, and a mirrored decoder."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvLayer
from .stft import STFT, SpectralNetwork

KERNEL, STRIDE = (5, 2), (2, 1)  # frequency, time
PADDING, OUTPUT_PADDING = (KERNEL[0] // 2, 0), (STRIDE[0] - 1, 0)
Conv = Callable[[int, int], nn.Module]  # of numbers of inputs and outputs


class EncoderDecoder(SpectralNetwork):
    """Base of DCCRN and CRN, which differ in their layers, and in what goes in and comes out:

    - `observe(spectrum)`: input [parts, B, …] for a spectrum, real and imaginary part, [2, B, …];
    - `conclude(output, spectrum)`: both parts of the estimate, given the output, of the shape of the input;
    - `join(x, skip)`: channels of a decoder layer's input and the opposite encoder layer's output as one.

    Args:
        sizes: Channels before the encoder and after each of its layers; the decoder mirrors them.
        conv, transposed: Layers that halve and double the frequencies, given inputs and outputs.
        norm: Norm of a number of channels.
        recurrence: Recurrence over a number of channels times frequencies.
        skip: Whether each decoder layer also gets the output of the opposite encoder layer.
    """

    def __init__(
        self, sizes: Sequence[int], conv: Conv, transposed: Conv, norm: Callable, recurrence: Callable, skip: bool
    ) -> None:
        super().__init__()
        self.stft, self.skip = STFT(), skip
        frequencies = (self.stft.bins - 1) >> (len(sizes) - 1)  # left after the encoder has halved them
        self.encoder = nn.ModuleList(ConvLayer(conv(i, o), norm(o)) for i, o in pairwise(sizes))
        self.recurrence = recurrence(sizes[-1] * frequencies)
        joined = 2 if skip else 1
        *upward, (inputs, outputs) = pairwise(reversed(sizes))
        layers = [ConvLayer(transposed(i * joined, o), norm(o)) for i, o in upward]
        self.decoder = nn.ModuleList([*layers, transposed(inputs * joined, outputs)])

    def enhance(self, spectrum: Tensor) -> Tensor:
        parts = torch.stack([spectrum.real, spectrum.imag])  # [2, B, 257, T]
        output = self.apply_layers(self.observe(parts).transpose(0, 1)[:, :, 1:]).to(parts.dtype)
        output = F.pad(output, (0, 0, 1, 0)).transpose(0, 1)  # zero for DC
        return torch.complex(*self.conclude(output, parts))

    def apply_layers(self, x: Tensor) -> Tensor:
        """Return the decoder's output for the encoder's input without DC, both [B, parts, 256, T].

        It holds no complex tensors, which torch.compile does not support.
        """
        if any(_is_channels_last(weight) for weight in self.encoder.parameters()):
            x = x.contiguous(memory_format=torch.channels_last)  # so that the first layer's output is, too
        return encode_and_decode(x, self.encoder, self.recurrence, self.decoder, self.join if self.skip else None)

    def streaming_step(self, for_export: bool = False) -> nn.Module:
        """Return the network hop by hop; see models/streaming."""
        from .streaming.encoder_decoder import EncoderDecoderStep

        return EncoderDecoderStep(self, for_export)


def encode_and_decode(
    x: Tensor, encoder: Iterable, middle: Callable, decoder: Iterable, join: Callable | None
) -> Tensor:
    """Return the output of encoder layers, a middle and decoder layers for x, [B, C, F, T].

    join: joins a decoder layer's input with the output of the opposite encoder layer; None for no skips.
    """
    skips = []
    for layer in encoder:
        x = layer(x)  # [B, C, F, T]
        skips.append(x)
    x = middle(x)
    for layer in decoder:
        x = layer(join(x, skips.pop()) if join else x)
    return x


class Halving(nn.Module):
    """Makes a convolution that halves the frequencies, causal in time: [B, C, F, T] to [B, C', F/2, T]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (KERNEL[1] - 1, 0)))


class Doubling(nn.Module):
    """Makes a transposed convolution that doubles the frequencies, with one frame of look-ahead.

    [B, C, F, T] to [B, C', 2F, T].
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, OUTPUT_PADDING)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        # Without the first frame, output frame t sees the input frames t and t + 1. F.pad keeps channels-last
        # memory, for the gradient too.
        return y[..., 1:] if y.is_contiguous() else F.pad(y, (-1, 0))


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
