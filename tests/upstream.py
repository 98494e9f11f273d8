"""DCCRN with the structure of the published code: `tools.benchmark --against tests/upstream.py` times it.

It is the same function of the same weights as ours, computed the way that the published code does, and its
parameters have the names there: four real convolutions for a complex one, two LSTMs called four times, the STFT as
a convolution with its kernels, the mask through atan2, cos and sin.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dccrn import DCCRN
from models.encoder_decoder import KERNEL, STRIDE
from models.published import convert

WINDOW, HOP = 400, 100
EDGE = WINDOW - HOP


def build(model: nn.Module) -> nn.Module:
    """Return the published code's DCCRN with the same weights. Raises ValueError for other networks."""
    plain = isinstance(model, DCCRN) and model.mask == "E" and model.skip
    if plain and hasattr(model.recurrence, "layers") and isinstance(model.encoder[0].norm, nn.BatchNorm2d):
        return with_weights_of(model, UpstreamDCCRN(model))
    raise ValueError("has DCCRN with mask E, skips, complex LSTMs and plain batch norms")


def with_weights_of(model: nn.Module, upstream: nn.Module) -> nn.Module:
    """Return a network of the published structure with the weights of `model`: the inverse of the import.

    The import only renames and rearranges: given weights that are numbered one by one, it says where each goes.
    """
    state = upstream.state_dict()
    sizes = [w.numel() for w in state.values()]
    numbers = torch.arange(sum(sizes), dtype=torch.float64).split(sizes)
    numbered = {name: part.view(w.shape) for (name, w), part in zip(state.items(), numbers, strict=True)}
    values = torch.cat([w.double().flatten() for w in state.values()])
    for name, places in convert("DCCRN", numbered).items():
        values[places.long()] = model.state_dict()[name].double()
    parts = zip(state.items(), values.split(sizes), strict=True)
    upstream.load_state_dict({name: part.view(w.shape) for (name, w), part in parts})
    return upstream


def upstream_transforms() -> dict[str, Tensor]:
    """Return the kernels of the published transforms, which are saved with the weights."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)  # periodic Hann
    basis = np.fft.rfft(np.eye(512))[:WINDOW]
    kernel = np.concatenate([basis.real, basis.imag], 1)  # [window, 2 * bins]
    arrays = {
        "stft.weight": (kernel.T * window)[:, None],
        "istft.weight": (np.linalg.pinv(kernel) * window)[:, None],
        "istft.window": window[None, :, None],
        "istft.enframe": np.eye(WINDOW)[:, None],
    }
    return {name: torch.from_numpy(np.ascontiguousarray(a, np.float32)) for name, a in arrays.items()}


class UpstreamDCCRN(nn.Module):
    """Has the sizes of a `models.DCCRN` with mask E, complex LSTMs and plain batch norms."""

    def __init__(self, model: DCCRN) -> None:
        super().__init__()
        kernels = {name.partition(".")[::2]: kernel for name, kernel in upstream_transforms().items()}
        self.stft, self.istft = (
            _Kernels(**{name: kernel for (part, name), kernel in kernels.items() if part == which})
            for which in ("stft", "istft")
        )
        channels = [2, *(2 * layer.conv.bias_real.numel() for layer in model.encoder)]
        self.encoder = nn.ModuleList(_complex_layer(i, o, _ComplexConv) for i, o in pairwise(channels))
        self.decoder = nn.ModuleList(
            _complex_layer(2 * i, o, _ComplexTranspose, bare=o == 2) for i, o in pairwise(reversed(channels))
        )
        lstms = [layer.real_lstm for layer in model.recurrence.layers]
        outputs = [None] * (len(lstms) - 1) + [lstms[0].input_size]
        self.enhance = nn.ModuleList(
            _ComplexLSTM(lstm.input_size, lstm.hidden_size, n) for lstm, n in zip(lstms, outputs, strict=True)
        )

    def forward(self, noisy: Tensor) -> Tensor:
        padded = F.pad(noisy, (EDGE, EDGE))[:, None]
        real, imag = F.conv1d(padded, self.stft.weight, stride=HOP).chunk(2, 1)  # [B, 257, T] each
        magnitude, phase = (real.square() + imag.square() + 1e-8).sqrt(), torch.atan2(imag, real)
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
        magnitude = magnitude * (mask_real.square() + mask_imag.square() + 1e-12).sqrt().tanh()
        phase = phase + torch.atan2(mask_imag, mask_real)
        return self.inverse(magnitude, phase, noisy.shape[1])

    def inverse(self, magnitude: Tensor, phase: Tensor, samples: int) -> Tensor:
        """Return the waveform, [B, samples], zeros after the last whole hop."""
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], 1)
        waveform = F.conv_transpose1d(spectrum, self.istft.weight, stride=HOP)
        squares = self.istft.window.repeat(1, 1, spectrum.shape[-1]).square()
        waveform = waveform / (F.conv_transpose1d(squares, self.istft.enframe, stride=HOP) + 1e-8)
        waveform = waveform[:, 0, EDGE:-EDGE].clamp(-1, 1)
        return F.pad(waveform, (0, samples - waveform.shape[1]))


class _Kernels(nn.Module):
    def __init__(self, **kernels: Tensor) -> None:
        super().__init__()
        for name, kernel in kernels.items():
            self.register_buffer(name, kernel)


class _ComplexLayer(nn.Module):
    """Two real layers, each applied to both parts."""

    def forward(self, x: Tensor) -> Tensor:
        real, imag = self.prepare(x).chunk(2, 1)
        return torch.cat(
            [self.real_conv(real) - self.imag_conv(imag), self.imag_conv(real) + self.real_conv(imag)], 1
        )

    def prepare(self, x: Tensor) -> Tensor:
        return x


class _ComplexConv(_ComplexLayer):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.real_conv, self.imag_conv = (nn.Conv2d(inputs, outputs, KERNEL, STRIDE, (2, 0)) for _ in range(2))

    def prepare(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 0))


class _ComplexTranspose(_ComplexLayer):
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


def _complex_layer(inputs: int, outputs: int, conv: type[_ComplexLayer], bare: bool = False) -> nn.Sequential:
    first = conv(inputs // 2, outputs // 2)
    return nn.Sequential(first) if bare else nn.Sequential(first, nn.BatchNorm2d(outputs), nn.PReLU())
