"""A trained network's layers as matrix products, for inference a few frames at a time.

Activations are [part, B, T, F, C]: real and imaginary part first, channels of one part last. With the parts as
rows of one matrix, a complex layer is one product with its kernels R and I side by side. That reads each weight
once, and reading weights is what bounds a network that gets few frames at a time. Norms become one factor and
one shift a channel, computed in float64.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .complex_layers import KERNEL, STRIDE, ComplexConv2d, ComplexConvTranspose2d


class FoldedConv(nn.Module):
    """Complex convolution, norm and PReLU: [2, B, T + 1, F, C] to [2, B, T, F/2, N]; the first frame is the past."""

    def __init__(self, conv: ComplexConv2d, norm: nn.Module, activation: nn.PReLU) -> None:
        super().__init__()
        self.inputs = conv.weight_real.shape[1]
        # Rows in the order of `forward`'s columns: frequency tap, time tap, input.
        kernels = [w.detach().permute(2, 3, 1, 0).flatten(0, 2) for w in (conv.weight_real, conv.weight_imag)]
        self.register_buffer("weight", torch.cat(kernels, 1))  # [5 * 2 * C, 2 * N]
        self.finish = _Finish(conv.bias(), norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(torch.cat([x[:, :, :-1], x[:, :, 1:]], -1), (0, 0, KERNEL[0] // 2, KERNEL[0] // 2))
        last = x.shape[3] - KERNEL[0] + 1
        columns = torch.cat([x[:, :, :, tap : last + tap : STRIDE[0]] for tap in range(KERNEL[0])], -1)
        products = torch.matmul(columns, self.weight).unflatten(-1, (2, -1))
        return self.finish(_complex_sum(products, dim=-2))


class FoldedConvTranspose(nn.Module):
    """Complex transposed convolution, norm and PReLU: [2, B, T + 1, F, C] to [2, B, T, 2F, N].

    Output frame t sees the frames t and t + 1 of the input.
    """

    def __init__(
        self, conv: ComplexConvTranspose2d, norm: nn.Module | None = None, activation: nn.PReLU | None = None
    ) -> None:
        super().__init__()
        self.inputs = conv.weight_real.shape[0]
        # Rows: time tap (of the earlier frame first), input; columns: kernel, frequency tap, output.
        kernels = [
            w.detach().permute(3, 0, 2, 1).flip(0).flatten(0, 1).flatten(1)
            for w in (conv.weight_real, conv.weight_imag)
        ]
        self.register_buffer("weight", torch.cat(kernels, 1))  # [2 * C, 2 * 5 * N]
        self.finish = _Finish(conv.bias(), norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, :, :-1], x[:, :, 1:]], -1)
        products = torch.matmul(x, self.weight).unflatten(-1, (2, KERNEL[0], -1))
        taps = _complex_sum(products, dim=-3)  # [2, B, T, F, 5, N]
        # Input f reaches the outputs 2f - 2 ... 2f + 2; output pair (2f, 2f + 1) gathers them.
        below = F.pad(taps[:, :, :, 1:, 0:2], (0, 0, 0, 0, 0, 1))
        above = F.pad(taps[:, :, :, :-1, 4:5], (0, 0, 0, 1, 1, 0))
        return self.finish((taps[:, :, :, :, 2:4] + below + above).flatten(3, 4))


class _Finish(nn.Module):
    """What follows the products of a layer: bias and norm as a 2 x 2 matrix and a shift a channel, then PReLU."""

    def __init__(self, bias: Tensor, norm: nn.Module | None, activation: nn.PReLU | None) -> None:
        super().__init__()
        n = bias.numel() // 2
        # A norm in evaluation mode is affine in every complex channel: three points say all about it.
        points = torch.zeros(3, 2, n, dtype=torch.float64, device=bias.device)
        points[1, 0] = points[2, 1] = 1
        points = (points + bias.detach().double().view(2, n)).view(3, 2 * n, 1, 1)
        if norm is not None:
            with torch.no_grad():
                points = copy.deepcopy(norm).double().eval()(points)
        shift, from_real, from_imag = (p.view(2, 1, 1, 1, n) for p in points)
        own = torch.stack([from_real[0] - shift[0], from_imag[1] - shift[1]])
        other = torch.stack([from_imag[0] - shift[0], from_real[1] - shift[1]])
        dtype = bias.dtype
        self.register_buffer("shift", shift.to(dtype))
        self.register_buffer("own", own.to(dtype))
        self.register_buffer("other", other.to(dtype) if other.any() else None)
        self.slope = None if activation is None else activation.weight.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addcmul(self.shift, x, self.own)
        if self.other is not None:
            y = torch.addcmul(y, x.flip(0), self.other)
        return y if self.slope is None else F.prelu(y, self.slope)


def _complex_sum(products: Tensor, dim: int) -> Tensor:
    """Of R and I applied to both parts (I and R along `dim`): R(re) - I(im) and R(im) + I(re)."""
    by_r, by_i = products.unbind(dim)
    return torch.stack([by_r[0] - by_i[1], by_r[1] + by_i[0]])
