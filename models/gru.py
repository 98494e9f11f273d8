"""GRUs that train fast on a CPU, where a recurrence costs time by the number of operations, not by their size."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


class GroupedGRU(nn.Module):
    """A GRU for each of `groups` equal parts of the features, with `both_ways` bidirectional.

    [N, steps, features] to [N, steps, features]; a part's output is its forward, then its backward half.
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
        x = x.permute(1, 2, 0)  # [steps, features, N]
        if self.directions == 2:
            x = torch.cat([x, x.flip(0)], 1)
        y, hidden = gru(x, hidden, (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh))
        if self.directions == 2:
            forward, backward = y.unflatten(1, (2, self.groups, self.units)).unbind(1)  # [steps, groups, units, N]
            y = torch.cat([forward, backward.flip(0)], 2).flatten(1, 2)
        return y.permute(2, 0, 1), hidden


def gru(x: Tensor, hidden: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the output [steps, blocks * units, N] of a GRU for each block of the features, and their state after.

    x: [steps, blocks * inputs, N]. hidden: the state before, [1, N, blocks * units].
    weights: of input and state, and both biases, as in `torch.gru`, with the blocks as first dimension.
    With gradients on a CPU, the steps are computed here, in a seventh of the time that torch takes.
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        x, weights = x.permute(2, 0, 1), _joined(*weights)
        dtype = weights[-1].dtype  # under autocast, weights made by products are bfloat16 and biases are not
        x, hidden, *weights = (t.to(dtype) for t in (x, hidden, *weights))
        # Only in training does cuDNN keep what the gradient needs.
        y, hidden = torch.gru(x, hidden, weights, True, 1, 0.0, torch.is_grad_enabled(), False, True)
        return y.permute(1, 2, 0), hidden
    blocks = len(weights[0])
    y = _Steps.apply(x.unflatten(1, (blocks, -1)), hidden[0].t().unflatten(0, (blocks, -1)), *weights)
    y = y.flatten(1, 2)
    return y, y[-1:].mT


def _joined(*weights: Tensor) -> list[Tensor]:
    """Return weights and biases of one GRU that has the blocks' as diagonal; its rows are ordered by gate."""
    blocks, units = len(weights[0]), weights[1].shape[2]
    eye = torch.eye(blocks, device=weights[0].device, dtype=weights[0].dtype)

    def join(weight: Tensor) -> Tensor:
        by_gate = weight.unflatten(1, (3, units))  # [blocks, 3, units, inputs]
        if weight.ndim == 2:
            return by_gate.transpose(0, 1).flatten()
        shape = 3 * blocks * units, blocks * weight.shape[2]  # in numbers, which torch 2.4 needs for ONNX
        return torch.einsum("kghi,kl->gkhli", by_gate, eye).reshape(shape)

    return [join(weight) for weight in weights]


find_libraries = cache(ThreadpoolController)


def in_one_thread(compute: Callable) -> Callable:
    """Return the function with NumPy's products in one thread: several would spin while they wait for a core."""

    def limited(*arguments: Any) -> Any:
        with find_libraries().limit(limits=1, user_api="blas"):
            return compute(*arguments)

    return limited


class _Steps(torch.autograd.Function):
    """GRUs from [steps, blocks, inputs, N] to [steps, blocks, units, N]; see `gru`.

    NumPy computes them: on so few values, its operations take a third of the time of torch's. Gates are ordered
    reset, update, new, as in torch; in memory, units come before blocks. The backward pass multiplies the gradient
    of a state by five factors that are computed for all steps at once.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    @in_one_thread
    def forward(ctx: FunctionCtx, *tensors: Tensor) -> Tensor:
        x, first, of_input, of_state, input_bias, state_bias = (t.detach().contiguous().numpy() for t in tensors)
        (steps, blocks, _, rows), units = x.shape, first.shape[1]
        own, switches = slice(2 * units, None), slice(2 * units)  # the new gate; reset and update
        gates, from_state = (np.empty((steps, n * units, blocks, rows), x.dtype) for n in (3, 1))
        np.matmul(of_input, x, out=gates.swapaxes(1, 2))
        input_bias, state_bias = input_bias.T[..., None].copy(), state_bias.T[..., None]  # [3 units, blocks, 1]
        input_bias[switches] += state_bias[switches]
        gates += input_bias
        states = np.empty((steps + 1, units, blocks, rows), x.dtype)
        states[0] = first.swapaxes(0, 1)
        product = np.empty_like(gates[0])
        to_switch, to_new, by_block = product[switches], product[own], product.swapaxes(0, 1)
        half, bias = np.full_like(to_switch, 0.5), state_bias[own] + np.zeros_like(to_new)
        lines = (states[:-1], states[:-1].swapaxes(1, 2), states[1:], from_state, gates[:, switches])
        lines += (gates[:, :units], gates[:, units : 2 * units], gates[:, own])
        for before, state, after, in_new, switch, reset, update, new in zip(*lines, strict=True):
            np.matmul(of_state, state, out=by_block)
            np.add(switch, to_switch, out=switch)
            np.multiply(switch, half, out=switch)
            np.tanh(switch, out=switch)  # sigmoid(x) = (1 + tanh(x / 2)) / 2
            np.multiply(switch, half, out=switch)
            np.add(switch, half, out=switch)
            np.add(to_new, bias, out=in_new)
            np.multiply(reset, in_new, out=to_new)
            np.add(new, to_new, out=new)
            np.tanh(new, out=new)
            np.subtract(before, new, out=after)
            np.multiply(after, update, out=after)
            np.add(after, new, out=after)
        ctx.save_for_backward(*map(torch.from_numpy, (x, of_input, of_state, from_state, gates, states)))
        return torch.from_numpy(states[1:].swapaxes(1, 2))

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    @in_one_thread
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, of_input, of_state, from_state, gates, states = (tensor.numpy() for tensor in ctx.saved_tensors)
        before, after, (reset, update, new) = states[:-1], states[1:], np.split(gates, 3, 1)
        steps, units, blocks, rows = new.shape
        # Factors from a state's gradient to those of the state before, the state's part of the new gate, reset,
        # update, and the inputs' part of the new gate. In this order, those of the state and of the inputs adjoin.
        factors = np.empty((steps, 5, units, blocks, rows), x.dtype)
        kept, of_own, of_reset, of_update, of_new = factors.swapaxes(0, 1)
        kept[:], fresh = update, 1 - update
        np.multiply(fresh, 1 - new * new, out=of_new)
        np.multiply(of_new, reset, out=of_own)
        np.multiply(of_own * from_state, 1 - reset, out=of_reset)
        np.multiply(after - new, fresh, out=of_update)
        gradients = np.empty_like(factors)
        by_block = gradients.reshape(steps, 5 * units, blocks, rows).swapaxes(1, 2)
        carried, eye = np.zeros_like(states[0]), np.eye(units, dtype=x.dtype)
        back = carried.swapaxes(0, 1)
        turned = np.concatenate([[eye] * blocks, np.roll(of_state.swapaxes(1, 2), units, 2)], 2)
        given = gradient.transpose(1, 2).contiguous().numpy()
        lines = (given, factors, gradients, by_block[:, :, : 4 * units])
        for given, factor, of_step, of_states in zip(*(line[::-1] for line in lines), strict=True):
            np.add(carried, given, out=carried)
            np.multiply(carried, factor, out=of_step)
            np.matmul(turned, of_states, out=back)
        to_state, to_inputs = by_block[:, :, units : 4 * units], by_block[:, :, 2 * units :]
        of_weights = (
            np.matmul(to_inputs, x.swapaxes(2, 3)).sum(0),
            np.roll(np.matmul(to_state, before.transpose(0, 2, 3, 1)).sum(0), -units, 1),
            to_inputs.sum((0, 3)),
            np.roll(to_state.sum((0, 3)), -units, 1),
        )
        of_x = np.matmul(of_input.swapaxes(1, 2), to_inputs)
        return tuple(map(torch.from_numpy, (of_x, back, *of_weights)))
