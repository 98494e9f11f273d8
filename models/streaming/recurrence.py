"""The network's recurrence with its memory as an argument, for inference of a few frames at a time."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Memory = tuple[Tensor, Tensor]  # hidden and cell state, [LSTMs of the layer, rows, units] each


class StreamingRecurrence(nn.Module):
    """The LSTM layers of DCCRN's or CRN's `recurrence`, [parts, B, T, F, C] to the same shape.

    for_export: use torch's LSTM operator, which exports to ONNX for any number of frames. Otherwise the loop over
    frames is here: torch's operator rearranges its weights in every call, which takes longer than a frame.
    """

    def __init__(self, recurrence: nn.Module, for_export: bool = False) -> None:
        super().__init__()
        self.complex = hasattr(recurrence, "layers")
        kind = _Operators if for_export else _Loop
        if self.complex:
            self.lstms = nn.ModuleList(kind([layer.real_lstm, layer.imag_lstm]) for layer in recurrence.layers)
            linears = [recurrence.layers[-1].real_linear, recurrence.layers[-1].imag_linear]
        else:
            self.lstms = nn.ModuleList(kind([one]) for one in _layers(recurrence.lstm))
            linears = [recurrence.linear]
        self.linears = nn.ModuleList(copy.deepcopy(linears)).requires_grad_(False)

    def initial_memory(self, batch: int) -> list[Memory]:
        """Return the memory of every layer before the first frame."""
        rows = 2 * batch if self.complex else batch
        sizes = [(len(layer.units), rows, layer.units[0]) for layer in self.lstms]
        weight = self.linears[0].weight
        return [(weight.new_zeros(size), weight.new_zeros(size)) for size in sizes]

    def forward(self, x: Tensor, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        parts, batch, frames, bins, channels = x.shape
        if self.complex:  # features run over channels, then frequencies
            y = x.permute(2, 0, 1, 4, 3).reshape(frames, parts * batch, -1)
        else:
            y = x.permute(2, 1, 0, 4, 3).reshape(frames, batch, -1)
        following = []
        for lstm, past in zip(self.lstms, memory, strict=True):
            y, new = lstm(y, past)  # [LSTMs, T, rows, units]
            following.append(new)
            y = self._complex_sum(y) if self.complex else y[0]
        if self.complex:
            halves = [linear(y[:, n * batch : (n + 1) * batch]) for n, linear in enumerate(self.linears)]
            y = torch.stack(halves)  # [2, T, B, C * F]
            y = y.unflatten(-1, (channels, bins)).permute(0, 2, 1, 4, 3)
        else:
            y = self.linears[0](y).unflatten(-1, (parts, channels, bins)).permute(2, 1, 0, 4, 3)
        return y, following

    @staticmethod
    def _complex_sum(y: Tensor) -> Tensor:
        """Return re = R(re) - I(im), im = I(re) + R(im); [2, T, 2B, units] to [T, 2B, units]."""
        (real_real, real_imag), (imag_real, imag_imag) = (one.chunk(2, 1) for one in y.unbind(0))
        return torch.cat([real_real - imag_imag, imag_real + real_imag], 1)


class _Loop(nn.Module):
    """LSTMs with the same input and joined weights: [T, rows, inputs] to [LSTMs, T, rows, units]."""

    def __init__(self, lstms: Sequence[nn.LSTM]) -> None:
        super().__init__()
        self.units = [lstm.hidden_size for lstm in lstms]
        # Gates are ordered input, forget, output, cell: those with a sigmoid side by side.
        weights = [[_reorder(w.detach()) for w in lstm.all_weights[0]] for lstm in lstms]
        self.splits = [3 * self.units[0], self.units[0]]
        # [inputs, LSTMs * 4 * units], [LSTMs, units, 4 * units]
        self.register_buffer("from_input", torch.cat([w[0].t() for w in weights], 1))
        self.register_buffer("from_hidden", torch.stack([w[1].t() for w in weights]).contiguous())
        self.register_buffer("bias", torch.cat([w[2] + w[3] for w in weights]))

    def forward(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        gates = torch.addmm(self.bias, x.flatten(0, 1), self.from_input)
        gates = gates.view(-1, x.shape[1], len(self.units), 4 * self.units[0])
        gates = gates.transpose(1, 2)  # [T, LSTMs, rows, 4 * units]
        hidden, cell = memory
        outputs = []
        for frame in gates:
            opening, new = torch.baddbmm(frame, hidden, self.from_hidden).split(self.splits, 2)
            write, forget, output = opening.sigmoid().chunk(3, 2)
            cell = torch.addcmul(forget * cell, write, new.tanh())
            hidden = output * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1), (hidden, cell)


class _Operators(nn.Module):
    """As `_Loop`, with torch's LSTM operator."""

    def __init__(self, lstms: Sequence[nn.LSTM]) -> None:
        super().__init__()
        self.units = [lstm.hidden_size for lstm in lstms]
        self.lstms = nn.ModuleList(copy.deepcopy(list(lstms))).requires_grad_(False)

    def forward(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        results = [lstm(x, (memory[0][n : n + 1], memory[1][n : n + 1])) for n, lstm in enumerate(self.lstms)]
        outputs, memories = zip(*results, strict=True)
        hidden, cell = (torch.cat(parts) for parts in zip(*memories, strict=True))
        return torch.stack(outputs), (hidden, cell)


def _reorder(weight: Tensor) -> Tensor:
    """Change torch's order of gates (input, forget, cell, output) to input, forget, output, cell."""
    write, forget, new, output = weight.chunk(4)
    return torch.cat([write, forget, output, new])


def _layers(lstm: nn.LSTM) -> list[nn.LSTM]:
    """Return the layers of a deep LSTM as separate LSTMs."""
    layers = []
    for weights in lstm.all_weights:
        layer = nn.LSTM(weights[0].shape[1], lstm.hidden_size)
        layer.load_state_dict(dict(zip(layer.state_dict(), weights, strict=True)))
        layers.append(layer.to(weights[0]))
    return layers
