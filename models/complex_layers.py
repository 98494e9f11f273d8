"""Complex layers on real tensors, whose channels hold real parts, then imaginary ones; and complex masks.

Every layer computes the complex product in as few real operations as possible.
Source: Hu et al., "DCCRN", arXiv 2008.00264; Trabelsi et al., "Deep Complex Networks", ICLR 2018.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHT_STD = 0.05
Mask = Literal["E", "C", "R", "none"]
# Mask (real, imaginary) that passes the input through: the last layer's initial bias.
# Mask E has tanh on its magnitude: 1.5 gives 0.905, where the gradient is not yet zero.
PASS_THROUGH = {"E": (1.5, 0.0), "C": (1.0, 0.0), "R": (1.0, 1.0), "none": (0.0, 0.0)}
FIRST_MASK_STD = 0.005  # of the last layer's weights: the initial mask is nearly its bias

LARGE = 32  # complex channels of a layer: with fewer, three real products take as long as four

Parts = tuple[Tensor, Tensor]  # real and imaginary part, of one shape
Pair = tuple[int, int]  # frequency, time


class ComplexKernel(nn.Module):
    """Weights of a complex (transposed) convolution: kernels R and I, each with an optional bias."""

    def __init__(self, shape: tuple[int, ...], outputs: int, options: Sequence[Pair], bias: bool = True) -> None:
        super().__init__()
        self.options = options
        self.weight_real = nn.Parameter(torch.randn(shape) * WEIGHT_STD)
        self.weight_imag = nn.Parameter(torch.randn(shape) * WEIGHT_STD)
        self.bias_real = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.bias_imag = nn.Parameter(torch.zeros(outputs)) if bias else None

    def bias(self) -> Tensor | None:
        """Return the bias of R(re) - I(im) and of I(re) + R(im), [2 * outputs], or None."""
        if self.bias_real is None:
            return None
        return torch.cat([self.bias_real - self.bias_imag, self.bias_real + self.bias_imag])

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution; in float32 on a CPU, large layers take three real products instead of four.

        (R + iI) (a + ib) = p - (R + I) b + i (p + (I - R) a) with p = R (a + b), by Gauss.
        """
        real, imag, half = self.weight_real, self.weight_imag, torch.is_autocast_enabled(x.device.type)
        graph = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if x.device.type != "cpu" or half or graph or min(real.shape[:2]) < LARGE:
            return self.conv(x, self.weight(), self.bias(), *self.options)
        a, b = x.chunk(2, 1)
        shared = self.conv(a + b, real, self.bias_real, *self.options)
        of_real = self.conv(b, real + imag, self.bias_imag, *self.options)
        of_imag = self.conv(a, imag - real, self.bias_imag, *self.options)
        return torch.cat([shared - of_real, shared + of_imag], 1)

    def start_at_pass_through(self, mask: str) -> None:
        """Initialise a network's last layer with a mask that passes the input through.

        SI-SNR does not see the sign: a network that starts from a random mask may learn inverted speech.
        """
        real, imag = PASS_THROUGH[mask]
        nn.init.normal_(self.weight_real, std=FIRST_MASK_STD)
        nn.init.normal_(self.weight_imag, std=FIRST_MASK_STD)
        nn.init.constant_(self.bias_real, (real + imag) / 2)  # bias_real - bias_imag = real,
        nn.init.constant_(self.bias_imag, (imag - real) / 2)  # bias_real + bias_imag = imag


class ComplexConv2d(ComplexKernel):
    """Complex convolution, [B, inputs, F, T]; channel counts hold both parts. options: stride and padding."""

    def conv(self, *arguments: Any) -> Tensor:
        return F.conv2d(*arguments)

    def __init__(self, inputs: int, outputs: int, kernel: Pair, *options: Pair, bias: bool = True) -> None:
        super().__init__((outputs // 2, inputs // 2, *kernel), outputs // 2, options, bias)

    def weight(self) -> Tensor:
        """Return the kernel of the equivalent real convolution, [outputs, inputs, height, width]."""
        real, imag = self.weight_real, self.weight_imag
        return torch.cat([torch.cat([real, -imag], 1), torch.cat([imag, real], 1)])


class ComplexConvTranspose2d(ComplexKernel):
    """Complex transposed convolution, as `ComplexConv2d`. options: stride, padding and output padding."""

    def conv(self, *arguments: Any) -> Tensor:
        return F.conv_transpose2d(*arguments)

    def __init__(self, inputs: int, outputs: int, kernel: Pair, *options: Pair, bias: bool = True) -> None:
        super().__init__((inputs // 2, outputs // 2, *kernel), outputs // 2, options, bias)

    def weight(self) -> Tensor:
        """Return the kernel of the equivalent real transposed convolution, [inputs, outputs, height, width]."""
        real, imag = self.weight_real, self.weight_imag
        return torch.cat([torch.cat([real, imag], 1), torch.cat([-imag, real], 1)])


def join_parts(x: Tensor, skip: Tensor) -> Tensor:
    """Return channels joined part by part: both real halves, then both imaginary halves."""
    (real, imag), (real_skip, imag_skip) = x.chunk(2, 1), skip.chunk(2, 1)
    return torch.cat([real, real_skip, imag, imag_skip], 1)


class ComplexLSTM(nn.Module):
    """Complex LSTM layer: re = R(re) - I(im), im = I(re) + R(im), with `outputs` each followed by a linear layer.

    Real and imaginary part [T, B, inputs] to [T, B, units], or to [T, B, outputs] if `outputs` is given.
    """

    def __init__(self, inputs: int, units: int, outputs: int | None = None) -> None:
        super().__init__()
        self.real_lstm = nn.LSTM(inputs, units)
        self.imag_lstm = nn.LSTM(inputs, units)
        self.real_linear = nn.Linear(units, outputs) if outputs else nn.Identity()
        self.imag_linear = nn.Linear(units, outputs) if outputs else nn.Identity()

    def forward(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.cat([real, imag], 1)  # both parts as one batch, [T, 2B, inputs]
        real_real, real_imag = self.real_lstm(parts)[0].chunk(2, 1)
        imag_real, imag_imag = self.imag_lstm(parts)[0].chunk(2, 1)
        return self.real_linear(real_real - imag_imag), self.imag_linear(imag_real + real_imag)


def apply_mask(kind: str, output: Parts, spectrum: Parts) -> Parts:
    """Return the estimated spectrum.

    kind: E (magnitude through tanh, phases add), C (complex product), R (real and imaginary part separately) or
        none: the output is added to the noisy spectrum.
    Source: Hu et al., arXiv 2008.00264, section 2.2.
    """
    (mask_real, mask_imag), (real, imag) = output, spectrum
    if kind == "none":
        return mask_real + real, mask_imag + imag
    if kind == "R":
        return mask_real * real, mask_imag * imag
    if kind == "E":
        # tanh(|M|) M/|M| has the phase of M without computing it; 1e-12 keeps the gradient finite at 0.
        magnitude = (mask_real.square() + mask_imag.square() + 1e-12).sqrt()
        scale = magnitude.tanh() / magnitude
        mask_real, mask_imag = mask_real * scale, mask_imag * scale
    return mask_real * real - mask_imag * imag, mask_real * imag + mask_imag * real
