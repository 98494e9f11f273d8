"""Measure how fast a network enhances a live signal on one core of this machine, and where the time goes.

    python -m tools.speed runs/demo_SI-SNR+LMS/best.pt
    python -m tools.speed paper  # the full network with random weights; they do not matter for speed

Real-time factor: seconds of processor time for a second of audio; below 1 is fast enough to run live.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import nn

from config import Config
from models import build_model, load_model
from models.streaming import StreamingEnhancer
from models.streaming_step import StreamingStep
from tools.common.audio import SAMPLE_RATE
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import use_threads
from tools.inference.checkpoints import checkpoint_path
from tools.inference.onnx_graphs import export_step, open_graph

HOP = 100  # samples
HOPS_OF_20_MS = (3, 3, 3, 3, 4)  # 20 ms are 3.2 hops
REPETITIONS = 5


@dataclasses.dataclass(frozen=True)
class Arguments:
    checkpoint: tyro.conf.Positional[str]
    """A checkpoint or a run's folder; pretrained for the network that comes with the package; paper for the full
    one."""
    seconds: float = 2.0
    """Audio in each of the repetitions, of which the median counts."""
    threads: int = 1
    """Threads that compute."""


def measure_speed(arguments: Arguments) -> None:
    use_threads(arguments.threads)
    name = arguments.checkpoint
    model = build_model(Config()).eval() if name == "paper" else load_model(checkpoint_path(name))
    enhancer = StreamingEnhancer(model)
    runs = {"PyTorch": [lambda hops: enhancer.push(torch.randn(hops * HOP))] * 2}
    with tempfile.TemporaryDirectory() as folder:
        for label, int8 in (("ONNX", False), ("ONNX int8", True)):
            export_step(model, Path(folder) / "step.onnx", int8)
            runs[label] = [
                onnx_stream(Path(folder) / "step.onnx", sizes) for sizes in ({"hops": 1, "block": HOP}, {})
            ]
    print("| real-time factor | hop by hop (6.25 ms) | blocks of 20 ms |\n|---|---|---|")
    for label, (by_hop, by_block) in runs.items():
        factors = (
            real_time_factor(by_hop, (1,), arguments.seconds),
            real_time_factor(by_block, HOPS_OF_20_MS, arguments.seconds),
        )
        print(f"| {label} | {factors[0]:.3f} | {factors[1]:.3f} |")
    shares = time_shares(enhancer.step, arguments.seconds)
    print("\nPyTorch, hop by hop: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()))


def onnx_stream(path: Path, sizes: dict[str, int]) -> Callable[[int], None]:
    """Return a function that feeds so many hops of noise to the graph and keeps its state."""
    session = open_graph(path, 1, sizes)
    shapes = {value.name: value.shape for value in session.get_inputs()}
    names = [value.name.replace("next_", "state_") for value in session.get_outputs()[1:]]
    state = {name: np.zeros(shapes[name], np.float32) for name in names}

    def feed(hops: int) -> None:
        noisy = np.random.default_rng(0).standard_normal((1, hops * HOP), np.float32)
        inputs = {"noisy": noisy, "present": np.ones(hops, np.float32), **state}
        state.update(zip(names, session.run(None, inputs)[1:], strict=True))

    return feed


def real_time_factor(feed: Callable[[int], object], pattern: tuple[int, ...], seconds: float) -> float:
    """Return median over the repetitions; `pattern` is the hops of one call after the other."""
    rounds = max(1, round(seconds * SAMPLE_RATE / HOP / sum(pattern)))
    factors = []
    for _ in range(REPETITIONS + 1):
        start = time.process_time()
        for hops in pattern * rounds:
            feed(hops)
        factors.append((time.process_time() - start) / (rounds * sum(pattern) * HOP / SAMPLE_RATE))
    return statistics.median(factors[1:])  # the first one warms up


def time_shares(step: StreamingStep, seconds: float) -> dict[str, float]:
    """Yield the share of the time that each part of the network takes, called from Python hop by hop."""
    parts = {"encoder": step.encoder, "recurrence": [step.recurrence], "decoder": step.decoder}
    took = dict.fromkeys(parts, 0.0)

    def watch(part: str, layer: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        started = []
        yield layer.register_forward_pre_hook(lambda *_: started.append(time.process_time()))

        def stop(*_: object) -> None:
            took[part] += time.process_time() - started.pop()

        yield layer.register_forward_hook(stop)

    handles = [handle for part, layers in parts.items() for layer in layers for handle in watch(part, layer)]
    state = step.first_state()
    start = time.process_time()
    with torch.inference_mode():
        for _ in range(round(seconds * SAMPLE_RATE / HOP)):
            _, state = step(torch.randn(1, HOP), state)
    total = time.process_time() - start
    for handle in handles:
        handle.remove()
    shares = {part: seconds / total for part, seconds in took.items()}
    return shares | {"transforms, mask, state": 1 - sum(shares.values())}


def main() -> None:
    measure_speed(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
