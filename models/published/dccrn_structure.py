"""DCCRN with the structure of the published code, to measure against; nothing trains or enhances with it.

The same function of the same weights as `models.DCCRN` (mask E, complex LSTM, batch norm), computed the way that
upstream does: four real convolutions for a complex one, two LSTMs called four times, the STFT as a convolution
with its kernels, the mask through atan2, cos and sin. Parameters have upstream's names.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..complex_layers import KERNEL, STRIDE
from ..dccrn import DCCRN
from .dccrn import to_upstream, upstream_transforms

WINDOW, HOP = 400, 100
EDGE = WINDOW - HOP


class ConvTransforms(nn.Module):
    """A network between an STFT and its inverse that are convolutions."""

    def __init__(self) -> None:
        super().__init__()
        kernels = {name.partition(".")[::2]: kernel for name, kernel in upstream_transforms().items()}
        self.stft, self.istft = (
            _Kernels(**{name: kernel for (part, name), kernel in kernels.items() if part == which})
            for which in ("stft", "istft")
        )

    def transform(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary part, [B, 257, T] each."""
        return F.conv1d(F.pad(noisy, (EDGE, EDGE))[:, None], self.stft.weight, stride=HOP).chunk(2, 1)

    @staticmethod
    def polar(real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        """Return magnitude and phase."""
        return (real.square() + imag.square() + 1e-8).sqrt(), torch.atan2(imag, real)

    def inverse(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """Return the waveform, [B, samples]."""
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], 1)
        waveform = F.conv_transpose1d(spectrum, self.istft.weight, stride=HOP)
        squares = self.istft.window.repeat(1, 1, spectrum.shape[-1]).square()
        waveform = waveform / (F.conv_transpose1d(squares, self.istft.enframe, stride=HOP) + 1e-8)
        return waveform[:, 0, EDGE:-EDGE].clamp(-1, 1)


class DCCRNStructure(ConvTransforms):
    """Has the weights of a `models.DCCRN`; [B, samples] to [B, samples], samples a multiple of 100."""

    def __init__(self, model: DCCRN) -> None:
        super().__init__()
        state = to_upstream(model.state_dict())
        channels = [2, *(state[f"encoder.{n}.0.real_conv.bias"].numel() * 2 for n in range(len(model.encoder)))]
        self.encoder = nn.ModuleList(_layer(i, o, _Conv) for i, o in itertools.pairwise(channels))
        self.decoder = nn.ModuleList(
            _layer(2 * i, o, _ConvTranspose, bare=o == 2) for i, o in itertools.pairwise(reversed(channels))
        )
        lstms = [layer.real_lstm for layer in model.recurrence.layers]
        outputs = [None] * (len(lstms) - 1) + [lstms[0].input_size]
        self.enhance = nn.ModuleList(
            _ComplexLSTM(lstm.input_size, lstm.hidden_size, n) for lstm, n in zip(lstms, outputs, strict=True)
        )
        self.load_state_dict(state)

    def forward(self, noisy: Tensor) -> Tensor:
        real, imag = self.transform(noisy)
        magnitude, phase = self.polar(real, imag)
        x = torch.stack([real, imag], 1)[:, :, 1:]  # [B, 2, 256, T]
        skips = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        shape = x.shape
        parts = [part.flatten(2) for part in x.permute(3, 0, 1, 2).chunk(2, 2)]  # each [T, B, C/2 * F]
        for lstm in self.enhance:
            parts = lstm(*parts)
        x = torch.cat([part.unflatten(2, (shape[1] // 2, shape[2])) for part in parts], 2).permute(1, 2, 3, 0)
        for layer in self.decoder:
            halves = zip(x.chunk(2, 1), skips.pop().chunk(2, 1), strict=True)
            x = layer(torch.cat([torch.cat(pair, 1) for pair in halves], 1))[..., 1:]
        mask_real, mask_imag = F.pad(x, (0, 0, 1, 0)).unbind(1)  # [B, 257, T]
        mask_magnitude = (mask_real.square() + mask_imag.square() + 1e-12).sqrt()
        mask_phase = torch.atan2(mask_imag, mask_real)
        return self.inverse(magnitude * mask_magnitude.tanh(), phase + mask_phase)


class _Kernels(nn.Module):
    def __init__(self, **kernels: Tensor) -> None:
        super().__init__()
        for name, kernel in kernels.items():
            self.register_buffer(name, kernel)


class _Complex(nn.Module):
    """Two real layers, each applied to both parts."""

    def forward(self, x: Tensor) -> Tensor:
        real, imag = self.prepare(x).chunk(2, 1)
        return torch.cat(
            [self.real_conv(real) - self.imag_conv(imag), self.imag_conv(real) + self.real_conv(imag)], 1
        )

    def prepare(self, x: Tensor) -> Tensor:
        return x


class _Conv(_Complex):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.real_conv, self.imag_conv = (nn.Conv2d(inputs, outputs, KERNEL, STRIDE, (2, 0)) for _ in range(2))

    def prepare(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 0))


class _ConvTranspose(_Complex):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.real_conv, self.imag_conv = (
            nn.ConvTranspose2d(inputs, outputs, KERNEL, STRIDE, (2, 0), (1, 0)) for _ in range(2)
        )


class _ComplexLSTM(nn.Module):
    def __init__(self, inputs: int, units: int, outputs: int | None) -> None:
        super().__init__()
        self.real_lstm, self.imag_lstm = nn.LSTM(inputs, units), nn.LSTM(inputs, units)
        if outputs:
            self.r_trans, self.i_trans = nn.Linear(units, outputs), nn.Linear(units, outputs)

    def forward(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        real_out = self.real_lstm(real)[0] - self.imag_lstm(imag)[0]
        imag_out = self.imag_lstm(real)[0] + self.real_lstm(imag)[0]
        return (
            (self.r_trans(real_out), self.i_trans(imag_out)) if hasattr(self, "r_trans") else (real_out, imag_out)
        )


def _layer(inputs: int, outputs: int, conv: type[_Complex], bare: bool = False) -> nn.Sequential:
    first = conv(inputs // 2, outputs // 2)
    return nn.Sequential(first) if bare else nn.Sequential(first, nn.BatchNorm2d(outputs), nn.PReLU())
