"""DCCRN and CRN hop by hop: hops of waveform and a state in, as many hops of estimate and the next state out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoder_decoder import EncoderDecoder
from .folded import FoldedConv, FoldedConvTranspose
from .recurrence import StreamingRecurrence
from .step import State
from .stft import StreamingSTFT


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
        self.bins, self.hop, self.kept = model.stft.bins, model.stft.hop, 0
        self.edge = model.stft.window // self.hop - 1
        self.look_ahead = len(self.decoder)
        self.delay = self.edge + self.look_ahead

    def first_state(self, batch: int = 1) -> State:
        """Return the state before the first hop: silence."""
        zeros = self.stft.analysis.new_zeros
        state = {
            "hops": zeros(batch, self.edge, self.hop),
            "present": self.stft.analysis.new_ones(self.look_ahead),
            "spectrum": zeros(2, batch, self.look_ahead, self.bins),
            "pieces": zeros(batch, self.edge, self.edge + 1, self.hop),
        }
        size, parts = self.bins - 1, self.observe(zeros(2, 1, 1, 1)).shape[0]
        for n, layer in enumerate(self.encoder):
            state[f"encoder{n}"] = zeros(parts, batch, 1, size, layer.inputs)
            size //= 2
        for n, layer in enumerate(self.decoder):
            frame = parts, batch, 1, size, layer.inputs
            state[f"decoder{n}"] = zeros(frame)
            if self.skip:
                state |= {f"skip{n}_{place}": zeros(frame) for place in range(n + 1)}
            size *= 2
        for n, (hidden, cell) in enumerate(self.recurrence.first_memory(batch)):
            state[f"hidden{n}"], state[f"cell{n}"] = hidden, cell
        return state

    def ending(self, heard: Tensor) -> Tensor:
        """Return what the transform appends to a waveform [B, samples]: silence."""
        samples = heard.shape[1]
        whole = (samples + self.hop - 1) // self.hop + self.edge
        return heard.new_zeros(heard.shape[0], whole * self.hop - samples)

    def forward(self, noisy: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]:
        following: State = {}

        def with_past(name: str, x: Tensor, dim: int) -> Tensor:
            """Return x appended to its past in the state; the next state keeps the same length of its end."""
            x = torch.cat([state[name], x], dim)
            end = slice(-state[name].shape[dim], None)
            following[name] = x[(slice(None),) * dim + (end,)]
            return x

        def frame_before(name: str, x: Tensor) -> Tensor:
            """Return x, [parts, B, T, F, C], delayed by a frame."""
            if x.shape[2] == 1:
                following[name] = x
                return state[name]
            following[name] = x[:, :, -1:]
            return torch.cat([state[name], x[:, :, :-1]], 2)

        def two_delayed(name: str, x: Tensor, hops: int) -> list[Tensor]:
            """Return x delayed by hops + 1 and by hops, [parts, B, T, F, C] each."""
            places = [f"{name}_{n}" for n in range(hops + 1)]  # a frame each: a hop moves them without a copy
            line = [*(state[place] for place in places), x]
            if x.shape[2] == 1:
                following.update(zip(places, line[1:], strict=True))
                return line[:2]
            joined = torch.cat(line, 2)
            following.update(zip(places, joined[:, :, -hops - 1 :].split(1, 2), strict=True))
            return [joined[:, :, : -hops - 1], joined[:, :, 1 : -hops or None]]

        hops = noisy.unflatten(1, (-1, self.hop))  # [B, T, hop]
        spectrum = self.stft(with_past("hops", hops, 1))  # [2, B, T, bins]
        x = self.observe(spectrum)[..., 1:, None]  # without DC, [parts, B, T, 256, 1]
        skips = []
        for n, layer in enumerate(self.encoder):
            x = layer(frame_before(f"encoder{n}", x), x)  # [parts, B, T, F, C]
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
            x = x * gates[n] if gates else x
            inputs = [frame_before(f"decoder{n}", x), x]
            if self.skip:
                skip = skips.pop()
                inputs += two_delayed(f"skip{n}", skip * gates[0] if gates else skip, n)
            x = layer(*inputs)
        output = F.pad(x[..., 0], (1, 0))  # zero for DC, [parts, B, T, bins]
        spectrum = with_past("spectrum", spectrum, 2)[:, :, : -self.look_ahead]
        estimate = self.conclude(output, spectrum)
        pieces = with_past("pieces", self.stft.pieces(torch.stack(estimate)), 1)
        return self.stft.overlap_add(pieces).flatten(1).clamp(-1, 1), following
