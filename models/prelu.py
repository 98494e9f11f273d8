"""PReLU with one slope, quick on a CPU too."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

PIECE = 1 << 17  # values


class PReLU(nn.PReLU):
    """nn.PReLU with one slope. On a CPU, torch's own takes longer for its gradient than a convolution would.

    On a GPU, where reading the slope would make the CPU wait, and in a graph to be compiled or exported, where it
    would become a constant, it is torch's.
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
        else:  # under autocast: summed in float32, in pieces that stay in the cache
            pieces = zip(factors.split(PIECE), values.split(PIECE), strict=True)
            of_slope = sum(torch.dot(g.to(slope.dtype), p.to(slope.dtype).clamp_(max=0)) for g, p in pieces)
        return torch.ops.aten.leaky_relu_backward(gradient, x, slope.item(), False), of_slope[None]
