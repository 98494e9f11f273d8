"""A trained network's layers as matrix products, for inference a few frames at a time.

Activations are [parts, B, T, F, C]: real and imaginary part (or the one part of a real network) first, channels of
one part last. With the parts as rows of one matrix, a complex layer is one product with its kernels R and I side
by side. This reads each weight once, and reading weights limits the speed if few frames come at a time.
Norms become one factor and one shift a channel, computed in float64.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..complex_layers import ComplexKernel
from ..encoder_decoder import KERNEL


class FoldedConv(nn.Module):
    """Convolution, norm and PReLU: frames [parts, B, T, F, C] and the earlier ones to [parts, B, T, F/2, N]."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.PReLU) -> None:
        super().__init__()
        weights, bias = _kernels(conv)
        self.inputs = weights[0].shape[1]
        # Rows in the order of `forward`'s columns: frequency tap, time tap, input.
        kernels = [w.permute(2, 3, 1, 0).flatten(0, 2) for w in weights]
        self.register_buffer("weight", torch.cat(kernels, 1))  # [5 * 2 * C, parts * N]
        self.finish = _Finish(bias, norm, activation, len(weights))

    def forward(self, earlier: Tensor, x: Tensor) -> Tensor:
        pairs = torch.cat([earlier, x], -1).unflatten(3, (-1, 2)).flatten(4)  # two frequencies a row
        rows = pairs.shape[3]
        pairs = F.pad(pairs, (0, 0, 1, 1))
        low, centre, high = (pairs.narrow(3, n, rows) for n in range(3))
        high = high.narrow(4, 0, 2 * self.inputs)
        columns = torch.cat([low, centre, high], -1)  # the 5 frequencies around each even one
        return self.finish(torch.matmul(columns, self.weight))


class FoldedConvTranspose(nn.Module):
    """Transposed convolution, norm and PReLU: to [parts, B, T, 2F, N].

    Its inputs are pairs of frames [parts, B, T, F, C], each frame and the next; two pairs with a skip connection.
    """

    def __init__(
        self, conv: nn.Module, norm: nn.Module | None = None, activation: nn.PReLU | None = None, pairs: int = 1
    ) -> None:
        super().__init__()
        weights, bias = _kernels(conv)
        self.inputs = weights[0].shape[0] // pairs
        # Rows: pair, time tap (of the earlier frame first), input; columns: kernel, frequency tap, output.
        kernels = [
            w.unflatten(0, (pairs, -1)).permute(0, 4, 1, 3, 2).flip(1).flatten(0, 2).flatten(1) for w in weights
        ]
        self.register_buffer("weight", torch.cat(kernels, 1))  # [pairs * 2 * C, parts * 5 * N]
        self.finish = _Finish(bias, norm, activation, len(weights))

    def forward(self, *frames: Tensor) -> Tensor:
        return self.finish(torch.matmul(torch.cat(frames, -1), self.weight), self._gather)

    @staticmethod
    def _gather(taps: Tensor) -> Tensor:
        """Sum the contributions to each output frequency; input f contributes to outputs 2f - 2 ... 2f + 2.

        [parts, B, T, F, 5 * N] to [parts, B, T, 2F, N].
        """
        for_below, own, for_above = taps.unflatten(-1, (KERNEL[0], -1)).split([2, 2, 1], 4)
        from_above = F.pad(for_below, (0, 0, 0, 0, -1, 1))  # shifted by an input; what falls out is out of band
        from_below = F.pad(for_above, (0, 0, 0, 1, 1, -1))
        return (own + from_above + from_below).flatten(3, 4)


class _Finish(nn.Module):
    """The rest of a layer after its products: complex sum, bias and norm as one affine map, PReLU."""

    def __init__(self, bias: Tensor, norm: nn.Module | None, activation: nn.PReLU | None, parts: int) -> None:
        super().__init__()
        n = bias.numel() // parts
        # A norm in evaluation mode is affine in every channel: its values for zero and for a one in each part
        # determine it.
        points = torch.zeros(1 + parts, parts, n, dtype=torch.float64, device=bias.device)
        for part in range(parts):
            points[1 + part, part] = 1
        points = (points + bias.double().view(parts, n)).view(-1, parts * n, 1, 1)
        if norm is not None:
            with torch.no_grad():
                points = copy.deepcopy(norm).double().eval()(points)
        shift, *from_parts = points.view(-1, parts, 1, 1, 1, n)
        own = torch.stack([from_parts[part][part] - shift[part] for part in range(parts)])
        other = torch.stack([from_parts[-1 - part][part] - shift[part] for part in range(parts)])
        self.register_buffer("sign", bias.new_tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1) if parts == 2 else None)
        self.register_buffer("shift", shift.to(bias.dtype))
        self.register_buffer("own", own.to(bias.dtype))
        self.register_buffer("other", other.to(bias.dtype) if parts == 2 and other.any() else None)
        self.slope = 1.0 if activation is None else activation.weight.item()

    def forward(self, products: Tensor, gather: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the layer's output. products: of a complex layer, R(x) and I(x) side by side.

        gather: applied between the complex sum and the norm.
        """
        x = products
        if self.sign is not None:
            by_r, by_i = x.chunk(2, -1)
            x = torch.addcmul(by_r, by_i.flip(0), self.sign)  # R(re) - I(im), R(im) + I(re)
        x = gather(x) if gather else x
        y = torch.addcmul(self.shift, x, self.own)
        if self.other is not None:
            y = torch.addcmul(y, x.flip(0), self.other)
        return y if self.slope == 1 else F.leaky_relu(y, self.slope)


def _kernels(conv: nn.Module) -> tuple[list[Tensor], Tensor]:
    """Return the kernels (R and I of a complex convolution, or one of a real convolution) and the bias."""
    if isinstance(conv, ComplexKernel):
        return [conv.weight_real.detach(), conv.weight_imag.detach()], conv.bias().detach()
    return [conv.weight.detach()], conv.bias.detach()
