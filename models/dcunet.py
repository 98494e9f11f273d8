"""DCUNET: a complex U-Net of convolutions that estimates a complex ratio mask of a whole utterance."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.common.errors import UserError

from .complex_layers import ComplexKernel, Mask, apply_mask, join_parts
from .layers import ConvLayer
from .norms import NORMS, Norm
from .registry import EvenUnits, NetworkSettings, register
from .stft import CentredSTFT, SpectralNetwork

FFT, HOP = 1024, 256


class Shape(NamedTuple):
    """Shape of a layer: channels, real and imaginary together; kernel and stride, frequency first."""

    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]


# Encoders by the number of layers of encoder and decoder; Choi et al., table of appendix B.
ENCODERS = {
    10: [
        Shape(64, (7, 5), (2, 2)),
        Shape(128, (7, 5), (2, 2)),
        *[Shape(128, (5, 3), (2, 2))] * 2,
        Shape(128, (5, 3), (2, 1)),
    ],
    16: [
        Shape(64, (7, 5), (2, 2)),
        Shape(64, (7, 5), (2, 1)),
        Shape(128, (7, 5), (2, 2)),
        Shape(128, (5, 3), (2, 1)),
        *[Shape(128, (5, 3), (2, 2)), Shape(128, (5, 3), (2, 1))] * 2,
    ],
    20: [
        Shape(64, (7, 1), (1, 1)),
        Shape(64, (1, 7), (1, 1)),
        Shape(128, (7, 5), (2, 2)),
        Shape(128, (7, 5), (2, 1)),
        *[Shape(128, (5, 3), (2, 2)), Shape(128, (5, 3), (2, 1))] * 2,
        Shape(128, (5, 3), (2, 2)),
        Shape(180, (5, 3), (2, 1)),
    ],
}


@dataclass(frozen=True)
class DCUNETSettings(NetworkSettings):
    """Settings of DCUNET; the defaults are the published DCUnet-20 with plain batch norms."""

    layers: Literal[10, 16, 20] = 20
    """Layers of encoder and decoder together."""
    kernel_num: tuple[EvenUnits, ...] = ()
    """Channels of each encoder layer, real and imaginary together; nothing for the published ones."""
    time_stride: Literal[1, 2] = 2
    """Stride of the layers that skip frames."""
    mask: Mask = "E"
    """How the output changes the noisy spectrum; see DCCRN."""
    norm: Norm = "batch"
    """batch: batch norm of every channel; complex: 2 x 2 whitening of real and imaginary part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_num and len(self.kernel_num) != self.layers // 2:
            raise UserError(
                f"kernel_num: found {self.kernel_num}, expected {self.layers // 2} numbers, for {self.layers} "
                "layers of encoder and decoder"
            )


@register("DCUNET", DCUNETSettings)
class DCUNET(SpectralNetwork):
    """Noisy waveforms [B, samples] to estimated clean ones [B, samples], 16 kHz, [-1, 1], any length.

    Needs the whole utterance. With layers 16, time_stride 1 and kernel_num 72 72 144 144 144 160 160 180 it is the
    variant that Hu et al. compare DCCRN with.

    Source: Choi et al., "Phase-Aware Speech Enhancement with Deep Complex U-Net", ICLR 2019, arXiv 1903.03107.
    """

    def __init__(self, **settings: Any) -> None:
        """Build the network with the values of DCUNETSettings that are given. Raises UserError."""
        super().__init__()
        own = DCUNETSettings(**settings)
        self.mask, norm_of = own.mask, NORMS[own.norm]
        self.suits_channels_last = own.norm == "batch"
        self.stft = CentredSTFT(torch.hann_window(FFT), HOP)
        shapes = [
            s._replace(stride=(s.stride[0], min(s.stride[1], own.time_stride))) for s in ENCODERS[own.layers]
        ]
        sizes = [2, *(own.kernel_num or (s.channels for s in shapes))]
        self.frame_groups = 2 ** sum(s.stride[1] == 2 for s in shapes)
        self.encoder = nn.ModuleList(
            ConvLayer(_Conv(i, o, s), norm_of(o), nn.LeakyReLU())
            for (i, o), s in zip(pairwise(sizes), shapes, strict=True)
        )
        upward = list(zip(pairwise(reversed(sizes)), reversed(shapes), strict=True))
        joined = [1] + [2] * (len(upward) - 1)  # with the output of the encoder layer opposite
        self.decoder = nn.ModuleList(
            ConvLayer(_ConvTranspose(n * i, o, s), norm_of(o), nn.LeakyReLU())
            for n, ((i, o), s) in zip(joined[:-1], upward[:-1], strict=True)
        )
        (i, o), shape = upward[-1]
        self.decoder.append(_ConvTranspose(2 * i, o, shape, bias=True))
        self.decoder[-1].start_at_pass_through(self.mask)

    def enhance(self, spectrum: Tensor) -> Tensor:
        parts = spectrum.real, spectrum.imag
        output = self.estimate(torch.stack(parts, 1)).to(spectrum.real.dtype)
        return torch.complex(*apply_mask(self.mask, output.unbind(1), parts))

    def estimate(self, x: Tensor) -> Tensor:
        """Return the output for real and imaginary part, [B, 2, 513, T] both, without complex tensors."""
        frames = x.shape[-1]
        x = F.pad(x, (0, (1 - frames) % self.frame_groups))  # so that every layer's frames divide evenly
        skips = []
        for layer in self.encoder:
            x = layer(x)  # [B, C, F, T]
            skips.append(x)
        skips.pop()
        first, *layers = self.decoder
        x = first(x)
        for layer in layers:
            x = layer(join_parts(x, skips.pop()))
        return x[..., :frames]


class _Conv(ComplexKernel):
    """Complex convolution with padding, so that only strides change the size."""

    def __init__(self, inputs: int, outputs: int, shape: Shape) -> None:
        super().__init__((outputs // 2, inputs // 2, *shape.kernel), outputs // 2, bias=False)
        self.stride, self.padding = shape.stride, tuple(n // 2 for n in shape.kernel)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight_of_conv(), self.bias(), self.stride, self.padding)


class _ConvTranspose(ComplexKernel):
    """Complex transposed convolution, the mirror of `_Conv`."""

    def __init__(self, inputs: int, outputs: int, shape: Shape, bias: bool = False) -> None:
        super().__init__((inputs // 2, outputs // 2, *shape.kernel), outputs // 2, bias)
        self.stride, self.padding = shape.stride, tuple(n // 2 for n in shape.kernel)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight_of_transposed(), self.bias(), self.stride, self.padding)
