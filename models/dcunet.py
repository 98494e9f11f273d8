"""DCUNET: a complex U-Net of convolutions that estimates a complex ratio mask of a whole utterance."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.common.errors import UserError

from .complex_layers import ComplexConv2d, ComplexConvTranspose2d, Mask, apply_mask, join_parts
from .encoder_decoder import encode_and_decode
from .layers import NORMS, ConvLayer, Norm
from .registry import EvenUnits, NetworkSettings, register
from .stft import CentredSTFT, SpectralNetwork

FFT, HOP = 1024, 256

# Kernels and strides, frequency first.
TALL, SMALL = (7, 5), (5, 3)
HALVE, KEEP = (2, 2), (2, 1)  # frames
# Channels (real and imaginary together), kernel and stride of the encoder's layers, by the number of layers of
# encoder and decoder; Choi et al., table of appendix B.
PAIR = [(128, SMALL, HALVE), (128, SMALL, KEEP)]
ENCODERS = {
    10: [(64, TALL, HALVE), (128, TALL, HALVE), (128, SMALL, HALVE), *PAIR],
    16: [(64, TALL, HALVE), (64, TALL, KEEP), (128, TALL, HALVE), (128, SMALL, KEEP), *PAIR, *PAIR],
    20: [
        (64, (7, 1), (1, 1)),
        (64, (1, 7), (1, 1)),
        (128, TALL, HALVE),
        (128, TALL, KEEP),
        *PAIR,
        *PAIR,
        (128, SMALL, HALVE),
        (180, SMALL, KEEP),
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
    """A complex U-Net of convolutions that estimates a complex ratio mask.

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
        channels, kernels, strides = zip(*ENCODERS[own.layers], strict=True)
        strides = [(high, min(wide, own.time_stride)) for high, wide in strides]
        self.frame_groups = 2 ** sum(wide == 2 for _, wide in strides)
        paddings = [(high // 2, wide // 2) for high, wide in kernels]  # so that only strides change the size
        shapes = list(zip(kernels, strides, paddings, strict=True))
        sizes = list(pairwise([2, *(own.kernel_num or channels)]))

        def layer(conv: nn.Module, outputs: int) -> ConvLayer:
            return ConvLayer(conv, norm_of(outputs), nn.LeakyReLU())

        pairs = list(zip(sizes, shapes, strict=True))
        self.encoder = nn.ModuleList(layer(ComplexConv2d(i, o, *shape, bias=False), o) for (i, o), shape in pairs)
        self.decoder = nn.ModuleList()
        joined = 1  # from the second layer on, with the output of the encoder layer opposite
        for (o, i), shape in reversed(pairs[1:]):
            self.decoder.append(layer(ComplexConvTranspose2d(joined * i, o, *shape, bias=False), o))
            joined = 2
        (o, i), shape = pairs[0]
        self.decoder.append(ComplexConvTranspose2d(joined * i, o, *shape))
        self.decoder[-1].start_at_pass_through(self.mask)

    def enhance(self, spectrum: Tensor) -> Tensor:
        parts = spectrum.real, spectrum.imag
        output = self.apply_layers(torch.stack(parts, 1)).to(spectrum.real.dtype)
        return torch.complex(*apply_mask(self.mask, output.unbind(1), parts))

    def apply_layers(self, x: Tensor) -> Tensor:
        """Return the output for real and imaginary part, [B, 2, 513, T] both, without complex tensors."""
        frames = x.shape[-1]
        x = F.pad(x, (0, (1 - frames) % self.frame_groups))  # so that every layer's frames divide evenly
        *encoder, deepest = self.encoder
        first, *decoder = self.decoder
        return encode_and_decode(x, encoder, nn.Sequential(deepest, first), decoder, join_parts)[..., :frames]
