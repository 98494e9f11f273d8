"""Batch norms that take their statistics from the batches of all processes that train together."""

import torch
from torch import Tensor, nn

from .complex_layers import ComplexBatchNorm2d
from .statistics import mean_of_all, sum_of_all


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over all processes, for the CPU, where torch has none; [B, C, F, T] to the same shape."""

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
    """Make every batch norm of the model one over all processes; names and values of its state stay."""
    for name, child in model.named_children():
        if isinstance(child, ComplexBatchNorm2d):
            child.synced = True
        elif isinstance(child, nn.BatchNorm2d):
            setattr(model, name, _synced(child))
        else:
            sync_norms(child)


def _synced(norm: nn.BatchNorm2d) -> nn.Module:
    if norm.weight.is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    synced = SyncedBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    synced._parameters, synced._buffers = norm._parameters, norm._buffers  # the optimiser knows these tensors
    return synced
