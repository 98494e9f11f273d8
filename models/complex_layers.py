"""Complex layers on real tensors: the first half of the channels is the real part, the second the imaginary.

Every layer computes the complex product with as few and as large real operations as it takes.
Source: Hu et al., "DCCRN", arXiv 2008.00264; Trabelsi et al., "Deep Complex Networks", ICLR 2018.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .statistics import mean_of_all

KERNEL = (5, 2)  # frequency, time
STRIDE = (2, 1)
WEIGHT_STD = 0.05


class ComplexKernel(nn.Module):
    """Weights of a complex (transposed) convolution: kernels R and I, each with its bias, if it has one."""

    def __init__(self, shape: tuple[int, ...], outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight_real = nn.Parameter(torch.randn(shape) * WEIGHT_STD)
        self.weight_imag = nn.Parameter(torch.randn(shape) * WEIGHT_STD)
        self.bias_real = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.bias_imag = nn.Parameter(torch.zeros(outputs)) if bias else None

    def bias(self) -> Tensor | None:
        """Return the bias of both parts [outputs, both parts], of R(re) - I(im) and of I(re) + R(im)."""
        if self.bias_real is None:
            return None
        return torch.cat([self.bias_real - self.bias_imag, self.bias_real + self.bias_imag])

    def weight_of_conv(self) -> Tensor:
        """Return the kernel of the real convolution that does its work, [outputs, inputs, height, width]."""
        real, imag = self.weight_real, self.weight_imag
        return torch.cat([torch.cat([real, -imag], 1), torch.cat([imag, real], 1)])

    def weight_of_transposed(self) -> Tensor:
        """Return the same of a transposed convolution, [inputs, outputs, height, width]."""
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
    """Return all frames of [B, C, F, T] but the first. Channels-last memory stays so, for the gradient too."""
    return x[..., 1:] if x.is_contiguous() else F.pad(x, (-1, 0))


class ComplexLSTM(nn.Module):
    """Complex LSTM layer: re = R(re) - I(im), im = I(re) + R(im), each followed by a linear layer if asked for.

    Real and imaginary part [T, B, inputs] to [T, B, units], or to [T, B, outputs] where `outputs` is given.
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


class ComplexBatchNorm2d(nn.Module):
    """Batch norm that whitens real and imaginary part together and then mixes them by a learned 2 x 2 matrix.

    [B, channels, F, T] to the same shape. Source: Trabelsi et al. 2018, section 3.5.
    """

    eps, momentum = 1e-5, 0.1
    synced = False  # whether the statistics are those of all processes that train together

    def __init__(self, channels: int) -> None:
        super().__init__()
        n = channels // 2
        # Symmetric matrices as (real-real, real-imaginary, imaginary-imaginary).
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0, 1.0])[:, None].repeat(1, n))  # [3, n]
        self.bias = nn.Parameter(torch.zeros(2, n))
        self.register_buffer("running_mean", torch.zeros(2, n))
        self.register_buffer("running_cov", torch.tensor([1.0, 0.0, 1.0])[:, None].repeat(1, n))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        parts = x.unflatten(1, (2, -1))  # [B, 2, n, F, T]
        # Statistics in float32: a variance summed in half precision loses its small terms.
        with torch.autocast(x.device.type, enabled=False):
            mean, cov = self._batch_statistics(parts) if self.training else (self.running_mean, self.running_cov)
            mix = self._mix(cov)  # [2, 2, n]
            shift = self.bias - torch.einsum("oin,in->on", mix, mean)
        y = torch.einsum("oin,binft->bonft", mix.to(x.dtype), parts) + shift.to(x.dtype)[..., None, None]
        return y.flatten(1, 2)

    def _batch_statistics(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        parts = parts.to(self.running_mean.dtype)
        average = mean_of_all if self.synced else torch.mean
        mean = average(parts, (0, 3, 4))  # [2, n]
        real, imag = (parts - mean[..., None, None]).unbind(1)  # each [B, n, F, T]
        cov = torch.stack([average(a * b, (0, 2, 3)) for a, b in ((real, real), (real, imag), (imag, imag))])
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_cov.lerp_(cov, self.momentum)
            self.num_batches_tracked += 1
        return mean, cov

    def _mix(self, cov: Tensor) -> Tensor:
        """Return the weight matrix times the inverse square root of the covariance, [2, 2, n].

        The square root of a 2 x 2 matrix V with determinant s^2 is (V + s I) / t, t = sqrt(trace V + 2 s).
        """
        rr, ri, ii = cov[0] + self.eps, cov[1], cov[2] + self.eps
        s = (rr * ii - ri * ri).sqrt()
        scale = 1 / (s * (rr + ii + 2 * s).sqrt())
        white = torch.stack([torch.stack([ii + s, -ri]), torch.stack([-ri, rr + s])]) * scale
        weight = self.weight[torch.tensor([[0, 1], [1, 2]], device=cov.device)]  # [2, 2, n]
        return torch.einsum("oin,ijn->ojn", weight, white)
