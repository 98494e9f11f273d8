"""CRN with the structure of the published code, to measure against; nothing trains or enhances with it.

The same function of the same weights as `models.CRN` (mask E, skips), computed the way that the published code
does: the STFT as a convolution with its kernels, the phase through atan2, cos and sin. Parameters have its names.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..complex_layers import KERNEL, STRIDE
from ..crn import CRN
from .crn import crn_to_published
from .dccrn import upstream_transforms
from .dccrn_structure import ConvTransforms


class CRNStructure(ConvTransforms):
    """Has the weights of a `models.CRN`; [B, samples] to [B, samples], samples a multiple of 100."""

    def __init__(self, model: CRN) -> None:
        super().__init__()
        sizes = [1, *(layer.conv.out_channels for layer in model.encoder)]
        self.encoder = nn.ModuleList(
            _layer(nn.Conv2d(i, o, KERNEL, STRIDE, (2, 0)), o) for i, o in pairwise(sizes)
        )
        lstm = model.recurrence.lstm
        self.enhance = nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers)
        self.tranform = nn.Linear(lstm.hidden_size, lstm.input_size)  # spelt so there
        self.decoder = nn.ModuleList(
            _layer(nn.ConvTranspose2d(2 * i, o, KERNEL, STRIDE, (2, 0), (1, 0)), o, bare=o == 1)
            for i, o in pairwise(reversed(sizes))
        )
        self.load_state_dict(upstream_transforms() | crn_to_published(model.state_dict()))

    def forward(self, noisy: Tensor) -> Tensor:
        magnitude, phase = self.polar(*self.transform(noisy))
        x = magnitude[:, None, 1:]  # [B, 1, 256, T]
        skips = []
        for layer in self.encoder:
            x = layer(F.pad(x, (1, 0)))
            skips.append(x)
        shape = x.shape
        y = self.tranform(self.enhance(x.permute(3, 0, 1, 2).flatten(2))[0])  # [T, B, C * F]
        x = y.unflatten(2, shape[1:3]).permute(1, 2, 3, 0)
        for layer in self.decoder:
            x = layer(torch.cat([x, skips.pop()], 1))[..., 1:]
        return self.inverse(magnitude * F.pad(x[:, 0], (0, 0, 1, 0)).tanh(), phase)


class _Conv(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _layer(conv: nn.Module, outputs: int, bare: bool = False) -> nn.Sequential:
    first = _Conv(conv)
    return nn.Sequential(first) if bare else nn.Sequential(first, nn.BatchNorm2d(outputs), nn.PReLU())
