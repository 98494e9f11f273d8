"""Networks with the structure of the published codes: `tools.benchmark --against tests/upstream.py` times them.

Each is the same function of the same weights as ours, computed the way that the published code does, and its
parameters have the names there. DCCRN: four real convolutions for a complex one, two LSTMs called four times, the
STFT as a convolution with its kernels, the mask through atan2, cos and sin.
GTCRN: neighbouring bins are unfolded, decoder blocks are transposed convolutions, each group has a GRU of its own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dccrn import DCCRN
from models.encoder_decoder import KERNEL, STRIDE
from models.gtcrn import BANDS, BINS, DILATIONS, FFT, GTCRN, LOW, WIDTH, erb_bands
from models.gtcrn import HOP as GTCRN_HOP
from models.published import convert

WINDOW, HOP = 400, 100
EDGE = WINDOW - HOP


def build(model: nn.Module) -> nn.Module:
    """Return the published code's network with the same weights. Raises ValueError for networks that have none."""
    if isinstance(model, GTCRN):
        return with_weights_of(model, "GTCRN", UpstreamGTCRN(model))
    plain = isinstance(model, DCCRN) and model.mask == "E" and model.skip
    if plain and hasattr(model.recurrence, "layers") and isinstance(model.encoder[0].norm, nn.BatchNorm2d):
        return with_weights_of(model, "DCCRN", UpstreamDCCRN(model))
    raise ValueError("has GTCRN, and DCCRN with mask E, skips, complex LSTMs and plain batch norms")


def with_weights_of(model: nn.Module, network: str, upstream: nn.Module) -> nn.Module:
    """Return a network of the published structure with the weights of `model`: the inverse of the import.

    The import only renames and rearranges: given weights that are numbered one by one, it says where each goes.
    """
    state = upstream.state_dict()
    sizes = [w.numel() for w in state.values()]
    numbers = torch.arange(sum(sizes), dtype=torch.float64).split(sizes)
    numbered = {name: part.view(w.shape) for (name, w), part in zip(state.items(), numbers, strict=True)}
    values = torch.cat([w.double().flatten() for w in state.values()])
    for name, places in convert(network, numbered).items():
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


class UpstreamGTCRN(nn.Module):
    """Has the sizes of a `models.GTCRN`."""

    def __init__(self, model: GTCRN) -> None:
        super().__init__()
        channels = model.recurrences[0].linears[0].in_features
        self.register_buffer("window", torch.hann_window(FFT).sqrt(), persistent=False)
        self.erb = nn.ModuleDict(
            {
                "erb_fc": nn.Linear(BINS - LOW, BANDS, bias=False),
                "ierb_fc": nn.Linear(BANDS, BINS - LOW, bias=False),
            }
        ).requires_grad_(False)
        self.erb.erb_fc.weight.copy_(erb_bands())
        self.erb.ierb_fc.weight.copy_(erb_bands().T)
        half = (1, 5), (1, 2), (0, 2)
        self.encoder = nn.ModuleDict({"en_convs": nn.ModuleList()})
        self.encoder.en_convs.extend(
            [
                _ConvNorm(nn.Conv2d(9, channels, *half), channels),
                _ConvNorm(nn.Conv2d(channels, channels, *half, groups=2), channels),
                *(_Block(nn.Conv2d, channels, dilation) for dilation in DILATIONS),
            ]
        )
        self.dpgrnn1, self.dpgrnn2 = (_DualPath(channels) for _ in range(2))
        self.decoder = nn.ModuleDict({"de_convs": nn.ModuleList()})
        self.decoder.de_convs.extend(
            [
                *(_Block(nn.ConvTranspose2d, channels, dilation) for dilation in reversed(DILATIONS)),
                _ConvNorm(nn.ConvTranspose2d(channels, channels, *half, groups=2), channels),
                _ConvNorm(nn.ConvTranspose2d(channels, 2, *half), 2, last=True),
            ]
        )

    def forward(self, noisy: Tensor) -> Tensor:
        options = {"n_fft": FFT, "hop_length": GTCRN_HOP, "window": self.window}
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
        return torch.istft(estimate, **options, length=noisy.shape[1]).clamp(-1, 1)


class _ConvNorm(nn.Module):
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
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.intra_rnn = _Grouped(channels // 2, channels // 4, both_ways=True)
        self.inter_rnn = _Grouped(channels // 2, channels // 2)
        self.intra_fc, self.inter_fc = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.intra_ln, self.inter_ln = (nn.LayerNorm((WIDTH, channels), eps=1e-8) for _ in range(2))

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
