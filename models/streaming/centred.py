"""GTCRN and FullSubNet hop by hop: masks on a `CentredSTFT` with frames of two hops."""

import copy
import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..complex_layers import apply_mask
from ..stft import LEAST_OVERLAP, MaskNetwork
from . import State


class CentredStep(nn.Module):
    """The network of `model` as a `Step`, with a copy of its weights.

    for_export: compute the transform's matrices in the graph, which then does not hold them (2 MB).
    """

    def __init__(self, model: MaskNetwork, for_export: bool = False) -> None:
        super().__init__()
        self.network = copy.deepcopy(model).requires_grad_(False)
        window = model.stft.window
        self.hop, self.bins, self.frames_ahead = model.stft.hop, model.stft.bins, model.look_ahead
        # A sample also needs the frame after the one it arrives in.
        self.look_ahead = self.delay = model.look_ahead + 1
        self.history = 2  # mirroring reaches a sample further back than the last hop
        turn = 2 * math.pi / len(window) * torch.arange(len(window), dtype=torch.float64, device=window.device)
        parts = torch.full((self.bins,), 2.0)  # of the whole spectrum that a bin stands for, with its conjugate
        parts[[0, -1]] = 1
        for name, tensor in {
            "window": window,
            "circle": turn.cos().to(window),
            # Buffers too: what is computed without any is a constant to the tracer, and stored in the graph.
            "samples": torch.arange(len(window), device=window.device),
            "frequencies": torch.arange(self.bins, device=window.device),
            "scale": (parts / len(window)).repeat(2).to(window),
            "squares": window.double().square().view(2, self.hop).to(window),  # of a frame, in each of its hops
        }.items():
            self.register_buffer(name, tensor)
        self.matrices = self.transform if for_export else functools.cache(self.transform)

    def transform(self) -> tuple[Tensor, Tensor]:
        """Return matrices of the windowed real Fourier transform, [2 hops, 2 bins], and of its inverse."""
        turns = self.samples[:, None] * self.frequencies
        quarter = self.hop // 2
        angles = torch.cat([turns, turns + quarter], 1) % (2 * self.hop)  # cos(x + quarter of a turn) = -sin(x)
        analysis = self.circle[angles] * self.window[:, None]
        return analysis, (analysis * self.scale).T

    def initial_state(self, batch: int = 1) -> State:
        """Return the state before the first hop."""
        memory = self.network.initial_memory(batch)
        zeros = self.window.new_zeros
        state = {
            "begun": zeros(1),
            "hop": zeros(batch, 1, self.hop),
            "spectrum": zeros(batch, 2, self.bins, self.frames_ahead),
            "present": zeros(self.frames_ahead + 1),
            "frame": zeros(batch, 1, self.hop),
        }
        return state | {f"memory{n}": tensor for n, tensor in enumerate(memory)}

    def ending(self, waveform: Tensor) -> Tensor:
        """Return what the transform appends to a waveform [B, samples]: its end, mirrored."""
        samples = waveform.shape[1]
        # 1 up to a hop, else 0, in traceable operations; onnxruntime computes m // n as m times (1 // n).
        is_short = 2 // ((samples + self.hop - 1) // (2 * self.hop) + 2)
        length = samples + is_short * (self.bins - samples)
        filled = F.pad(waveform, (0, self.bins))[:, :length]
        mirrored = length // self.hop * self.hop + self.hop - length
        return torch.cat([filled[:, samples:], filled.flip(1)[:, 1 : mirrored + 1]], 1)

    def forward(self, noisy: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]:
        hops = noisy.unflatten(1, (-1, self.hop))  # [B, T, hop]
        present = torch.ones_like(hops[0, :, 0]) if present is None else present
        following = {"begun": torch.ones_like(state["begun"]), "hop": hops[:, -1:]}
        # The waveform is mirrored before its beginning; the window's first sample is zero.
        mirrored = hops[:, :1].flip(2).roll(1, 2)
        earlier = mirrored + state["begun"] * (state["hop"] - mirrored)
        frames = torch.cat([torch.cat([earlier, hops[:, :-1]], 1), hops], 2)  # [B, T, 2 hops]
        analysis, synthesis = self.matrices()
        parts = torch.matmul(frames, analysis).unflatten(2, (2, -1)).permute(0, 2, 3, 1) * present
        memory = [state[f"memory{n}"] for n in range(len(state) - len(following) - 3)]
        mask, memory = self.network.forward_frames(parts, memory)
        following |= {f"memory{n}": tensor for n, tensor in enumerate(memory)}

        line = torch.cat([state["spectrum"], parts], 3)
        following["spectrum"] = line[..., line.shape[3] - self.frames_ahead :]
        spectrum = line[..., : -self.frames_ahead or None]
        estimate = torch.cat(apply_mask("C", mask.unbind(1), spectrum.unbind(1)), 1)
        # Whether the frame of each hop, and the one before it, are within the signal.
        flags = torch.cat([state["present"], present])
        following["present"] = flags[-self.frames_ahead - 1 :]
        flags = flags[: -self.frames_ahead or None]
        before, own = flags[:-1, None], flags[1:, None]
        frames = torch.matmul(estimate.transpose(1, 2), synthesis) * own  # [B, T, 2 hops]
        first, second = frames.split(self.hop, 2)
        following["frame"] = second[:, -1:]
        second = torch.cat([state["frame"], second[:, :-1]], 1)
        overlap = own * self.squares[0] + before * self.squares[1]
        waveform = (first + second) / overlap.clamp(min=LEAST_OVERLAP)
        return waveform.flatten(1).clamp(-1, 1), following
