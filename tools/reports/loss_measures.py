"""Measurements of loss terms: values and gradients, time and memory."""

import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from tools.common.device import times_side_by_side

REPETITIONS = 5


def values_and_gradients(
    term: nn.Module, estimate: Tensor, clean: Tensor, noisy: Tensor
) -> tuple[list[float], list[float]]:
    """Return value and norm of the gradient at the estimate for each utterance of waveforms [B, samples]."""
    leaf = estimate.detach().requires_grad_()
    with torch.enable_grad():
        values = term(leaf, clean, noisy)  # [B]
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.tolist(), torch.linalg.vector_norm(gradient, dim=-1).tolist()


def measure_costs(steps: Mapping[str, Callable[[], Tensor]], device: torch.device) -> pd.DataFrame:
    """Return `seconds` and bytes `kept` for the backward pass of each step, a function that computes a loss [].

    Seconds are medians over repetitions in turn, on a CPU of processor time. Tensors saved for the backward pass
    count once each.
    """
    kept = {name: _kept_for_backward(step) for name, step in steps.items()}  # warms up as well
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    actions = {name: lambda step=step: step().backward() for name, step in steps.items()}
    seconds = times_side_by_side(actions, REPETITIONS, device, warm_up=0, clock=clock)
    return pd.DataFrame({"seconds": seconds, "kept": kept})


def term_step(term: nn.Module, estimate: Tensor, clean: Tensor, noisy: Tensor) -> Callable[[], Tensor]:
    """Return a step of a term, whose backward pass ends at the estimate."""
    return lambda: term(estimate.detach().requires_grad_(), clean, noisy).mean()


def _kept_for_backward(step: Callable[[], Tensor]) -> int:
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = step()
    kept = sum(storages.values())
    loss.backward()
    return kept
