"""What DCCRN and CRN are both built of: layers of an encoder and a decoder, and a recurrence between them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .prelu import PReLU

Join = Callable[[Tensor, Tensor], Tensor]


class ConvLayer(nn.Module):
    """Convolution, norm and PReLU with one slope."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        self.activation = PReLU()

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
    """Return what the decoder makes of x, [B, C, F, T].

    join: puts the output of the encoder layer opposite beside a decoder layer's input; None for no skips.
    """
    skips = []
    if any(_is_channels_last(weight) for weight in encoder.parameters()):
        x = x.contiguous(memory_format=torch.channels_last)  # else the first layer's output would not be
    for layer in encoder:
        x = layer(x)  # [B, C, F, T]
        skips.append(x)
    x = middle(x)
    for layer in decoder:
        x = layer(join(x, skips.pop()) if join else x)
    return x


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
