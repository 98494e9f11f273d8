"""GRUs that train fast on a CPU, where a recurrence costs time by the number of operations, not by their size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


class GroupedGRU(nn.Module):
    """A GRU for each of `groups` equal parts of the features, with `both_ways` bidirectional.

    [N, steps, features] to [N, steps, features]; a part's output is its forward, then its backward half.
    The weights of all parts and directions become the diagonal blocks of one GRU, which computes them at once.
    Parameters are stacked by direction, then by group: weight_ih is [blocks, 3 units, inputs].
    """

    def __init__(self, features: int, groups: int, both_ways: bool = False) -> None:
        super().__init__()
        self.groups, self.directions = groups, 2 if both_ways else 1
        self.inputs = features // groups
        self.units = self.inputs // self.directions
        blocks, rows = groups * self.directions, 3 * self.units
        self.weight_ih = nn.Parameter(torch.empty(blocks, rows, self.inputs))
        self.weight_hh = nn.Parameter(torch.empty(blocks, rows, self.units))
        self.bias_ih = nn.Parameter(torch.empty(blocks, rows))
        self.bias_hh = nn.Parameter(torch.empty(blocks, rows))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.units**-0.5), self.units**-0.5)  # as torch starts a GRU

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.step(x, x.new_zeros(1, x.shape[0], self.units * self.groups * self.directions))
        return y

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of some steps and the state after them; hidden: the state before, [1, N, features]."""
        if self.directions == 2:
            x = torch.cat([x, x.flip(1)], 2)
        y, hidden = gru(x, hidden, self._joined())
        if self.directions == 2:
            forward, backward = y.unflatten(2, (2, self.groups, self.units)).unbind(2)  # [N, steps, groups, units]
            y = torch.cat([forward, backward.flip(1)], 3).flatten(2)
        return y, hidden

    def _joined(self) -> list[Tensor]:
        """Return weights and biases of the joined GRU; its rows are ordered by gate, then by block."""
        blocks = self.groups * self.directions
        eye = torch.eye(blocks, device=self.weight_ih.device, dtype=self.weight_ih.dtype)

        def join(weight: Tensor, inputs: int) -> Tensor:
            by_gate = weight.unflatten(1, (3, self.units))  # [blocks, 3, units, inputs]
            shape = 3 * blocks * self.units, blocks * inputs  # in numbers, which torch 2.4 needs for ONNX
            return torch.einsum("kghi,kl->gkhli", by_gate, eye).reshape(shape)

        def stack(bias: Tensor) -> Tensor:
            return bias.unflatten(1, (3, self.units)).transpose(0, 1).flatten()

        joined = [join(self.weight_ih, self.inputs), join(self.weight_hh, self.units)]
        return [*joined, stack(self.bias_ih), stack(self.bias_hh)]


def gru(x: Tensor, hidden: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the output [N, steps, units] of a GRU of one layer and its state after, for x [N, steps, features].

    hidden: the state before, [1, N, units]. weights: of input and state, and both biases, as in `torch.gru`.
    With gradients on a CPU, the steps are computed here, in a quarter of the time that torch takes.
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        dtype = weights[-1].dtype  # under autocast, weights made by products are bfloat16 and biases are not
        x, hidden, *weights = (t.to(dtype) for t in (x, hidden, *weights))
        # Only in training does cuDNN keep what the gradient needs.
        return torch.gru(x, hidden, weights, True, 1, 0.0, torch.is_grad_enabled(), False, True)
    of_input, of_state, input_bias, state_bias = weights
    y = _Steps.apply(F.linear(x.transpose(0, 1), of_input, input_bias), hidden[0], of_state, state_bias)
    return y.transpose(0, 1), y[-1:]


class _Steps(torch.autograd.Function):
    """The steps of a GRU: contributions of the inputs to the gates, [steps, N, 3 units], to [steps, N, units].

    Gates are ordered reset, update, new, as in torch. The backward pass multiplies the gradient of a state by four
    factors that are computed for all steps at once.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: FunctionCtx, inputs: Tensor, first: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        steps, rows, width = inputs.shape
        units = width // 3
        from_state = torch.empty_like(inputs)
        switches = inputs.new_empty(steps, rows, 2 * units)  # reset and update
        news, states = inputs.new_empty(steps, rows, units), inputs.new_empty(steps + 1, rows, units)
        states[0] = first
        state, transposed = states[0], weight.t()
        two = 2 * units
        lines = (inputs[..., :two], inputs[..., two:], from_state, from_state[..., :two], from_state[..., two:])
        lines += (switches, switches[..., :units], switches[..., units:], news, states[1:])
        for to_switch, to_new, added, add_switch, add_new, switch, reset, update, new, after in zip(
            *(line.unbind(0) for line in lines), strict=True
        ):
            torch.addmm(bias, state, transposed, out=added)
            torch.add(to_switch, add_switch, out=switch).sigmoid_()
            torch.addcmul(to_new, reset, add_new, out=new).tanh_()
            state = torch.lerp(new, state, update, out=after)
        ctx.save_for_backward(weight, from_state[..., two:], switches, news, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weight, add_new, switches, news, states = ctx.saved_tensors
        steps, rows, units = news.shape
        before, (reset, update) = states[:-1], switches.chunk(2, 2)
        # Factors from a state's gradient to those of the state's part of the new gate, reset, update, and the
        # inputs' part of the new gate. In this order, the three of the state and of the inputs are contiguous.
        factors = news.new_empty(steps, rows, 4, units)
        of_state, of_reset, of_update, of_new = factors.unbind(2)
        fresh = 1 - update
        torch.mul(fresh, 1 - news.square(), out=of_new)
        torch.mul(of_new, reset, out=of_state)
        torch.mul(of_state * add_new, 1 - reset, out=of_reset)
        torch.mul((before - news).mul_(update), fresh, out=of_update)
        factors = factors.flatten(2)
        gates = torch.empty_like(factors)
        to_state, to_inputs = gates[..., : 3 * units], gates[..., units:]
        carried, turned = torch.zeros_like(states[0]), weight.roll(units, 0)
        repeat = torch.eye(units, dtype=weight.dtype).repeat(1, 4)  # as a product, faster than broadcasting
        lines = (gradient, factors, gates, to_state, update)
        for given, factor, gate, by_state, kept in zip(*(line.unbind(0)[::-1] for line in lines), strict=True):
            carried = carried + given
            torch.mul(carried @ repeat, factor, out=gate)
            carried = torch.addmm(carried * kept, by_state, turned)
        to_state = to_state.flatten(0, 1)
        of_weight = to_state.t() @ before.flatten(0, 1)
        return to_inputs, carried, of_weight.roll(-units, 0), to_state.sum(0).roll(-units, 0)
