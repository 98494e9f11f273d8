"""PReLU with one slope, quick on a CPU too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


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
        ctx.save_for_backward(x, slope)
        return F.leaky_relu(x, slope.item())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        gradient = gradient.contiguous()
        below = x.clamp(max=0).flatten()
        of_slope = torch.dot(gradient.flatten().to(slope.dtype), below.to(slope.dtype))
        return torch.ops.aten.leaky_relu_backward(gradient, x, slope.item(), False), of_slope[None]
