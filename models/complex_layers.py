"""Complex layers on real tensors: the first half of the channels is the real part, the second the imaginary.

Every layer computes the complex product in as few real operations as possible.
Source: Hu et al., "DCCRN", arXiv 2008.00264; Trabelsi et al., "Deep Complex Networks", ICLR 2018.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = (5, 2)  # frequency, time
STRIDE = (2, 1)
WEIGHT_STD = 0.05


class ComplexKernel(nn.Module):
    """Weights of a complex (transposed) convolution: kernels R and I, each with an optional bias."""

    def __init__(self, shape: tuple[int, ...], outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight_real = nn.Parameter(torch.randn(shape) * WEIGHT_STD)
        self.weight_imag = nn.Parameter(torch.randn(shape) * WEIGHT_STD)
        self.bias_real = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.bias_imag = nn.Parameter(torch.zeros(outputs)) if bias else None

    def bias(self) -> Tensor | None:
        """Return the bias of R(re) - I(im) and of I(re) + R(im), [2 * outputs], or None."""
        if self.bias_real is None:
            return None
        return torch.cat([self.bias_real - self.bias_imag, self.bias_real + self.bias_imag])

    def weight_of_conv(self) -> Tensor:
        """Return the kernel of the equivalent real convolution, [outputs, inputs, height, width]."""
        real, imag = self.weight_real, self.weight_imag
        return torch.cat([torch.cat([real, -imag], 1), torch.cat([imag, real], 1)])

    def weight_of_transposed(self) -> Tensor:
        """Return the kernel of the equivalent real transposed convolution, [inputs, outputs, height, width]."""
        real, imag = self.weight_real, self.weight_imag
        return torch.cat([torch.cat([real, imag], 1), torch.cat([-imag, real], 1)])


class ComplexConv2d(ComplexKernel):
    """Complex convolution that halves the frequencies, causal in time.

    [B, inputs, F, T] to [B, outputs, F/2, T]; channel counts hold both parts.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__((outputs // 2, inputs // 2, *KERNEL), outputs // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (KERNEL[1] - 1, 0))
        return F.conv2d(x, self.weight_of_conv(), self.bias(), STRIDE, (KERNEL[0] // 2, 0))


class ComplexConvTranspose2d(ComplexKernel):
    """Complex transposed convolution that doubles the frequencies, with one frame of look-ahead.

    [B, inputs, F, T] to [B, outputs, 2F, T]; channel counts hold both parts.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__((inputs // 2, outputs // 2, *KERNEL), outputs // 2)

    def forward(self, x: Tensor) -> Tensor:
        padding, output_padding = (KERNEL[0] // 2, 0), (STRIDE[0] - 1, 0)
        y = F.conv_transpose2d(x, self.weight_of_transposed(), self.bias(), STRIDE, padding, output_padding)
        return without_first_frame(y)  # output frame t then sees the input frames t and t + 1


def join_parts(x: Tensor, skip: Tensor) -> Tensor:
    """Return channels joined part by part: both real halves, then both imaginary halves."""
    (real, imag), (real_skip, imag_skip) = x.chunk(2, 1), skip.chunk(2, 1)
    return torch.cat([real, real_skip, imag, imag_skip], 1)


def without_first_frame(x: Tensor) -> Tensor:
    """Return [B, C, F, T] without its first frame; channels-last memory format is kept, for the gradient too."""
    return x[..., 1:] if x.is_contiguous() else F.pad(x, (-1, 0))


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
