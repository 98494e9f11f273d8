"""DCCRN and CRN hop by hop: hops of waveform and a state in, as many hops of estimate and the next state out."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoder_decoder import EncoderDecoder
from ..stft import STFT
from . import State
from .folded import FoldedConv, FoldedConvTranspose
from .recurrence import StreamingRecurrence


class EncoderDecoderStep(nn.Module):
    """The network of `model` as a `Step`, with a copy of its weights.

    for_export: see `StreamingRecurrence`.
    """

    def __init__(self, model: EncoderDecoder, for_export: bool = False) -> None:
        super().__init__()
        self.observe, self.conclude = model.observe, model.conclude
        self.stft = StreamingSTFT(model.stft)
        self.encoder = nn.ModuleList(
            FoldedConv(layer.conv, layer.norm, layer.activation) for layer in model.encoder
        )
        self.recurrence = StreamingRecurrence(model.recurrence, for_export)
        self.skip = model.skip
        pairs = 2 if self.skip else 1
        *layers, last = model.decoder
        self.decoder = nn.ModuleList(
            [FoldedConvTranspose(layer.conv, layer.norm, layer.activation, pairs) for layer in layers]
            + [FoldedConvTranspose(last, pairs=pairs)]
        )
        self.bins, self.hop, self.history = model.stft.bins, model.stft.hop, 0
        self.edge = model.stft.window // self.hop - 1
        self.look_ahead = len(self.decoder)
        self.delay = self.edge + self.look_ahead

    def initial_state(self, batch: int = 1) -> State:
        """Return the state before the first hop: silence."""
        zeros = self.stft.analysis.new_zeros
        state = {
            "input": zeros(batch, self.edge, self.hop),
            "present": self.stft.analysis.new_ones(self.look_ahead),
            "spectrum": zeros(2, batch, self.look_ahead, self.bins),
            "output": zeros(batch, self.edge, self.edge + 1, self.hop),
        }
        size, parts = self.bins - 1, self.observe(zeros(2, 1, 1, 1)).shape[0]
        for n, layer in enumerate(self.encoder):
            state[f"encoder{n}"] = zeros(parts, batch, 1, size, layer.inputs)
            size //= 2
        for n, layer in enumerate(self.decoder):
            state[f"decoder{n}"] = zeros(parts, batch, 1, size, layer.inputs)
            if self.skip:
                state[f"skip{n}"] = zeros(parts, batch, n + 1, size, layer.inputs)
            size *= 2
        for n, (hidden, cell) in enumerate(self.recurrence.initial_memory(batch)):
            state[f"hidden{n}"], state[f"cell{n}"] = hidden, cell
        return state

    def ending(self, waveform: Tensor) -> Tensor:
        """Return what the transform appends to a waveform [B, samples]: silence."""
        samples = waveform.shape[1]
        whole = (samples + self.hop - 1) // self.hop + self.edge
        return waveform.new_zeros(waveform.shape[0], whole * self.hop - samples)

    def forward(self, noisy: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]:
        following: State = {}

        def with_past(name: str, x: Tensor, dim: int) -> Tensor:
            """Return x appended to its past in the state; the next state keeps the same length of its end."""
            end = slice(-int(state[name].shape[dim]), None)  # a constant for ONNX
            x = torch.cat([state[name], x], dim)
            following[name] = x[(slice(None),) * dim + (end,)]
            return x

        def two_delayed(name: str, x: Tensor) -> list[Tensor]:
            """Return [parts, B, T, F, C] delayed by the length of its past in the state, and by a frame less."""
            past = int(state[name].shape[2])
            if x.shape[2] == past == 1:  # hop by hop, without copies
                following[name] = x
                return [state[name], x]
            x = with_past(name, x, 2)
            return [x[:, :, :-past], x[:, :, 1 : 1 - past or None]]

        spectrum = self.stft(with_past("input", noisy.unflatten(1, (-1, self.hop)), 1))  # [2, B, T, bins]
        x = self.observe(spectrum)[..., 1:, None]  # without DC, [parts, B, T, 256, 1]
        skips = []
        for n, layer in enumerate(self.encoder):
            x = layer(*two_delayed(f"encoder{n}", x))  # [parts, B, T, F, C]
            skips.append(x)
        memory = [(state[f"hidden{n}"], state[f"cell{n}"]) for n in range(len(self.recurrence.lstms))]
        x, memory = self.recurrence(x, memory)
        for n, (hidden, cell) in enumerate(memory):
            following[f"hidden{n}"], following[f"cell{n}"] = hidden, cell
        gates = []
        if present is None:
            following["present"] = state["present"]
        else:  # after the end, offline layers get zeros, not what earlier layers compute from silence
            line = with_past("present", present, 0)[:, None, None]  # [look_ahead + T, 1, 1]
            gates = [line[self.look_ahead - n : -n or None] for n in range(self.look_ahead)]
        for n, layer in enumerate(self.decoder):  # each a frame later than the one before
            inputs = two_delayed(f"decoder{n}", x * gates[n] if gates else x)
            if self.skip:
                skip = skips.pop()
                inputs += two_delayed(f"skip{n}", skip * gates[0] if gates else skip)
            x = layer(*inputs)
        output = F.pad(x[..., 0], (1, 0))  # zero for DC, [parts, B, T, bins]
        spectrum = with_past("spectrum", spectrum, 2)[:, :, : -self.look_ahead]
        estimate = torch.stack(self.conclude(output, spectrum))
        hops = with_past("output", self.stft.hops(estimate), 1)
        return self.stft.overlap_add(hops).flatten(1).clamp(-1, 1), following


class StreamingSTFT(nn.Module):
    """An `STFT` and its inverse for single frames, as matrix products."""

    def __init__(self, stft: STFT) -> None:
        super().__init__()
        self.hop = stft.hop
        self.past = stft.window // stft.hop - 1  # hops of a frame before the newest
        exact = copy.deepcopy(stft).double()
        # Rows: the middle frame of waveforms with one nonzero sample, and spectra with one nonzero number.
        samples = torch.eye(stft.window, dtype=torch.float64, device=stft.hann.device)
        spectra = exact(samples)[:, :, self.past]  # [window, bins]
        self.register_buffer("analysis", torch.cat([spectra.real, spectra.imag], 1).to(stft.hann.dtype))
        numbers = torch.eye(2 * stft.bins, dtype=torch.float64, device=stft.hann.device)
        frames = F.pad(torch.complex(*numbers.chunk(2, 1))[:, :, None], (self.past, self.past))
        self.register_buffer("synthesis", exact.inverse(frames, stft.window).to(stft.hann.dtype))

    def forward(self, hops: Tensor) -> Tensor:
        """Transform hops [B, past + T, hop] to spectra [2, B, T, bins]."""
        frames = torch.cat([hops[:, k : k - self.past or None] for k in range(self.past + 1)], 2)
        return torch.matmul(frames, self.analysis).unflatten(2, (2, -1)).movedim(2, 0)

    def hops(self, spectra: Tensor) -> Tensor:
        """Transform spectra [2, B, T, bins] to [B, T, window/hop, hop]: what each frame adds to its hops."""
        return torch.matmul(spectra.movedim(0, 2).flatten(2), self.synthesis).unflatten(2, (-1, self.hop))

    def overlap_add(self, hops: Tensor) -> Tensor:
        """Return T complete hops [B, T, hop], given what past + T frames add, [B, past + T, window/hop, hop]."""
        return sum(hops[:, self.past - k : -k or None, k] for k in range(self.past + 1))
