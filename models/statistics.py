"""Statistics of batches, of one process or of all that train together."""

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


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
