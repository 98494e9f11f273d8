"""GTCRN with the structure of the published code, to measure against; nothing trains or enhances with it.

The same function of the same weights as `models.GTCRN`, computed the way that the published code does:
neighbouring bins are unfolded, decoder blocks are transposed convolutions, each group has a GRU of its own.
Parameters have its names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gtcrn import BANDS, BINS, DILATIONS, FFT, GTCRN, HOP, LOW
from .gtcrn import gtcrn_to_published


class GTCRNStructure(nn.Module):
    """Has the weights of a `models.GTCRN`; [B, samples] to [B, samples], samples a multiple of 256."""

    def __init__(self, model: GTCRN) -> None:
        super().__init__()
        channels, width = model.channels, model.recurrences[0].width
        self.register_buffer("window", torch.hann_window(FFT).sqrt(), persistent=False)
        self.erb = nn.ModuleDict(
            {
                "erb_fc": nn.Linear(BINS - LOW, BANDS, bias=False),
                "ierb_fc": nn.Linear(BANDS, BINS - LOW, bias=False),
            }
        ).requires_grad_(False)
        half = (1, 5), (1, 2), (0, 2)
        self.encoder = nn.ModuleDict({"en_convs": nn.ModuleList()})
        self.encoder.en_convs.extend(
            [
                _Conv(nn.Conv2d(9, channels, *half), channels),
                _Conv(nn.Conv2d(channels, channels, *half, groups=2), channels),
                *(_Block(nn.Conv2d, channels, dilation) for dilation in DILATIONS),
            ]
        )
        self.dpgrnn1, self.dpgrnn2 = (_DualPath(channels, width) for _ in range(2))
        self.decoder = nn.ModuleDict({"de_convs": nn.ModuleList()})
        self.decoder.de_convs.extend(
            [
                *(_Block(nn.ConvTranspose2d, channels, dilation) for dilation in reversed(DILATIONS)),
                _Conv(nn.ConvTranspose2d(channels, channels, *half, groups=2), channels),
                _Conv(nn.ConvTranspose2d(channels, 2, *half), 2, last=True),
            ]
        )
        self.load_state_dict(gtcrn_to_published(model.state_dict()))

    def forward(self, noisy: Tensor) -> Tensor:
        options = {"n_fft": FFT, "hop_length": HOP, "window": self.window}
        spectrum = torch.view_as_real(torch.stft(noisy, **options, return_complex=True))  # [B, 257, T, 2]
        real, imag = spectrum.permute(0, 3, 2, 1).unbind(1)  # [B, T, 257]
        x = torch.stack([(real.square() + imag.square() + 1e-12).sqrt(), real, imag], 1)
        x = torch.cat([x[..., :LOW], self.erb.erb_fc(x[..., LOW:])], 3)
        x = _unfold(x)  # [B, 9, T, 129]
        skips = []
        for layer in self.encoder.en_convs:
            x = layer(x)
            skips.append(x)
        x = self.dpgrnn2(self.dpgrnn1(x))
        for layer in self.decoder.de_convs:
            x = layer(x + skips.pop())
        mask = torch.cat([x[..., :LOW], self.erb.ierb_fc(x[..., LOW:])], 3)
        (by_real, by_imag) = mask.unbind(1)
        parts = torch.stack([real * by_real - imag * by_imag, imag * by_real + real * by_imag], 3)
        estimate = torch.view_as_complex(parts.transpose(1, 2).contiguous())  # [B, 257, T]
        return torch.istft(estimate, **options).clamp(-1, 1)


class _Conv(nn.Module):
    def __init__(self, conv: nn.Module, channels: int, last: bool = False) -> None:
        super().__init__()
        self.conv, self.bn = conv, nn.BatchNorm2d(channels)
        self.act = nn.Tanh() if last else nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Half of the channels: unfolding, two 1 x 1 convolutions and a dilated one between, attention over time."""

    def __init__(self, conv: type[nn.Conv2d | nn.ConvTranspose2d], channels: int, dilation: int) -> None:
        super().__init__()
        half, self.past = channels // 2, 2 * dilation
        self.point_conv1, self.point_bn1, self.point_act = (
            conv(3 * half, channels, 1),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
        )
        padding = (0 if conv is nn.Conv2d else self.past, 1)
        self.depth_conv = conv(channels, channels, 3, 1, padding, groups=channels, dilation=(dilation, 1))
        self.depth_bn, self.depth_act = nn.BatchNorm2d(channels), nn.PReLU()
        self.point_conv2, self.point_bn2 = conv(channels, half, 1), nn.BatchNorm2d(half)
        self.tra = nn.ModuleDict(
            {"att_gru": nn.GRU(half, channels, batch_first=True), "att_fc": nn.Linear(channels, half)}
        )

    def forward(self, x: Tensor) -> Tensor:
        changed, passed = x.chunk(2, 1)
        y = self.point_act(self.point_bn1(self.point_conv1(_unfold(changed))))
        y = self.depth_act(self.depth_bn(self.depth_conv(F.pad(y, (0, 0, self.past, 0)))))
        y = self.point_bn2(self.point_conv2(y))
        attention = self.tra.att_gru(y.square().mean(3).transpose(1, 2))[0]
        y = y * self.tra.att_fc(attention).transpose(1, 2).sigmoid()[..., None]
        return torch.stack([y, passed], 1).transpose(1, 2).contiguous().flatten(1, 2)


class _DualPath(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.intra_rnn = _Grouped(channels // 2, channels // 4, both_ways=True)
        self.inter_rnn = _Grouped(channels // 2, channels // 2)
        self.intra_fc, self.inter_fc = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.intra_ln, self.inter_ln = (nn.LayerNorm((width, channels), eps=1e-8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # [B, T, F, C]
        y = self.intra_fc(self.intra_rnn(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        x = x + self.intra_ln(y)
        y = x.transpose(1, 2)  # [B, F, T, C]
        y = self.inter_fc(self.inter_rnn(y.flatten(0, 1))).unflatten(0, y.shape[:2])
        return (x + self.inter_ln(y.transpose(1, 2))).permute(0, 3, 1, 2)


class _Grouped(nn.Module):
    def __init__(self, inputs: int, units: int, both_ways: bool = False) -> None:
        super().__init__()
        self.rnn1, self.rnn2 = (nn.GRU(inputs, units, batch_first=True, bidirectional=both_ways) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 2)
        return torch.cat([self.rnn1(first)[0], self.rnn2(second)[0]], 2)


def _unfold(x: Tensor) -> Tensor:
    """Return each channel of [B, C, T, F] with the bin below, its own and the bin above, [B, 3 C, T, F]."""
    return F.unfold(x, (1, 3), padding=(0, 1)).unflatten(2, x.shape[2:])
