"""Parts that several networks share: PReLU, batch norms, and encoders and decoders around a recurrence."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.distributed.nn.functional import all_reduce

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


class ComplexBatchNorm2d(nn.Module):
    """Batch norm that whitens real and imaginary part together and then mixes them by a learned 2 x 2 matrix.

    [B, channels, F, T] to the same shape. Source: Trabelsi et al. 2018, section 3.5.
    """

    eps, momentum = 1e-5, 0.1
    synced = False  # whether the statistics are those of all processes

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
        # Statistics in float32: in half precision, the sum of a variance loses small terms.
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


Norm = Literal["batch", "complex"]
NORMS = {"batch": nn.BatchNorm2d, "complex": ComplexBatchNorm2d}  # by the setting `norm`


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over all processes, [B, C, F, T] to the same shape; torch has none for the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(self.running_mean.dtype)
            mean = mean_of_all(wide, (0, 2, 3))  # [C]
            centred = wide - mean[:, None, None]
            variance = mean_of_all(centred.square(), (0, 2, 3))
            with torch.no_grad():
                count = sum_of_all(variance.new_tensor(x.numel() / x.shape[1]))
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
                self.num_batches_tracked += 1
            scale = self.weight * (variance + self.eps).rsqrt()
            return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def sync_norms(model: nn.Module) -> None:
    """Make every batch norm of the model use statistics of all processes; its state dict stays the same."""
    if any(weight.is_cuda for weight in model.parameters()):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for norm in model.modules():
        if isinstance(norm, ComplexBatchNorm2d):
            norm.synced = True
        elif type(norm) is nn.BatchNorm2d:
            norm.__class__ = SyncedBatchNorm2d  # the optimiser holds its weights


def mean_of_all(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the mean over `dims` and all processes, which may hold unequal numbers of values, with gradients."""
    total = x.sum(dims)
    count = sum_of_all(total.new_tensor(x.numel() / total.numel()))
    return all_reduce(total) / count


def sum_of_all(x: Tensor) -> Tensor:
    """Return the sum over all processes, without gradients."""
    x = x.detach().clone()
    torch.distributed.all_reduce(x)
    return x


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
