"""Parts that several networks share: PReLU, encoder and decoder layers, and the recurrence between them."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

Join = Callable[[Tensor, Tensor], Tensor]
PIECE = 1 << 17  # values that fit the cache


class PReLU(nn.PReLU):
    """nn.PReLU with one slope and a faster gradient on a CPU; torch's takes longer than that of a convolution.

    On a GPU, where reading the slope would make the CPU wait, and in a graph to be compiled or exported, where
    the slope would become a constant, torch's is used.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(x)
        return _LeakyReLU.apply(x, self.weight)


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, slope: Tensor) -> Tensor:
        x = x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()
        ctx.save_for_backward(x, slope)
        return F.leaky_relu(x, slope.item())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        if gradient.stride() != x.stride():
            gradient = torch.empty_like(x).copy_(gradient)
        values, factors = (t.as_strided((t.numel(),), (1,)) for t in (x, gradient))  # as they lie in memory
        if x.dtype == slope.dtype:
            of_slope = torch.dot(factors, values.clamp(max=0))
        else:  # under autocast: summed in float32
            pieces = zip(factors.split(PIECE), values.split(PIECE), strict=True)
            of_slope = sum(torch.dot(g.to(slope.dtype), p.to(slope.dtype).clamp_(max=0)) for g, p in pieces)
        return torch.ops.aten.leaky_relu_backward(gradient, x, slope.item(), False), of_slope[None]


class ConvLayer(nn.Module):
    """Convolution, norm and activation, by default a PReLU with one slope."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        self.activation = activation or PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class RealRecurrence(nn.Module):
    """LSTM over all channels and frequencies and a linear layer back, [B, C, F, T] to the same shape."""

    def __init__(self, features: int, units: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, layers)
        self.linear = nn.Linear(units, features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(self.lstm(x.permute(3, 0, 1, 2).flatten(2))[0])  # [T, B, C * F]
        return y.unflatten(2, x.shape[1:3]).permute(1, 2, 3, 0)


def encode_and_decode(
    x: Tensor, encoder: nn.ModuleList, middle: nn.Module, decoder: Iterable[nn.Module], join: Join | None
) -> Tensor:
    """Return the output of encoder, middle and decoder for x, [B, C, F, T].

    join: joins a decoder layer's input with the output of the opposite encoder layer; None for no skips.
    """
    skips = []
    if any(_is_channels_last(weight) for weight in encoder.parameters()):
        x = x.contiguous(memory_format=torch.channels_last)  # so that the first layer's output is, too
    for layer in encoder:
        x = layer(x)  # [B, C, F, T]
        skips.append(x)
    x = middle(x)
    for layer in decoder:
        x = layer(join(x, skips.pop()) if join else x)
    return x


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
