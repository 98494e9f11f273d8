"""Measure how fast a network enhances on one core of this machine, and where the time goes.

    python -m tools.speed runs/demo_SI-SNR+LMS/best.pt
    python -m tools.speed GTCRN  # a network's name: random weights, which do not matter for speed
    python -m tools.speed FullSubNet --network level=cumulative

Real-time factor: seconds of processor time for a second of audio; below 1 is fast enough to run live.
"""

import dataclasses
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import nn

from config import PRESETS, SAMPLE_RATE, Config, Positive
from models import NETWORKS, build_model, checkpoint_path, load_model
from models.streaming import Step, StreamingEnhancer, can_stream
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import use_threads
from tools.common.errors import UserError
from tools.common.timing import times_side_by_side
from tools.inference.onnx_graphs import export_step, open_graph

BLOCK = 320  # samples, 20 ms
REPETITIONS = 5


@dataclasses.dataclass(frozen=True)
class Arguments:
    checkpoint: tyro.conf.Positional[str]
    """A checkpoint, a run's folder or a network's name; pretrained: the packaged one; paper: the full DCCRN."""
    network: tuple[str, ...] = ()
    """Settings of a network given by its name, as name=value."""
    seconds: float = 2.0
    """Audio in each of the repetitions, of which the median counts."""
    threads: Positive = 1
    """Threads that compute."""


def measure_speed(arguments: Arguments) -> None:
    if not 0.1 <= arguments.seconds <= 3600:
        raise UserError(f"seconds: found {arguments.seconds}, expected 0.1 to 3600")
    use_threads(arguments.threads)
    name = "DCCRN" if arguments.checkpoint == "paper" else arguments.checkpoint
    if name in NETWORKS:
        model = build_model(Config(**PRESETS["paper"] | {"model": name, "network": arguments.network})).eval()
    elif arguments.network:
        raise UserError(f"network: found it with {name}, which has its own settings; leave it out")
    else:
        model = load_model(checkpoint_path(name))
    if can_stream(model):
        measure_stream(model, arguments.seconds)
    whole = torch.randn(1, round(arguments.seconds * SAMPLE_RATE))

    def enhance(_: int) -> None:
        with torch.inference_mode():
            model(whole)

    factor = real_time_factor(enhance, (whole.shape[1],), arguments.seconds)
    print(f"PyTorch, {arguments.seconds:g} s at once: real-time factor {factor:.3f}")


def measure_stream(model: nn.Module, seconds: float) -> None:
    """Print real-time factors hop by hop and in blocks of 20 ms, and the time shares of the network's parts."""
    enhancer = StreamingEnhancer(model)
    hop = enhancer.step.hop
    ends = [block * BLOCK // hop * hop for block in range(hop // math.gcd(hop, BLOCK) + 1)]  # one period
    in_blocks = tuple(end - begin for begin, end in itertools.pairwise(ends))  # whole hops, in samples
    runs = {"PyTorch": [lambda samples: enhancer.push(torch.randn(samples))] * 2}
    with tempfile.TemporaryDirectory() as folder:
        for label, int8 in (("ONNX", False), ("ONNX int8", True)):
            export_step(model, Path(folder) / "step.onnx", int8)
            runs[label] = [
                onnx_stream(Path(folder) / "step.onnx", hop, sizes) for sizes in ({"hops": 1, "block": hop}, {})
            ]
    print(f"| real-time factor | hop by hop ({1000 * hop / SAMPLE_RATE:g} ms) | blocks of 20 ms |\n|---|---|---|")
    for label, (by_hop, by_block) in runs.items():
        factors = real_time_factor(by_hop, (hop,), seconds), real_time_factor(by_block, in_blocks, seconds)
        print(f"| {label} | {factors[0]:.3f} | {factors[1]:.3f} |")
    shares = time_shares(enhancer.step, seconds)
    print("\nPyTorch, hop by hop: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()))


def onnx_stream(path: Path, hop: int, sizes: dict[str, int]) -> Callable[[int], None]:
    """Return a function that feeds a number of samples of noise, whole hops, to the graph and keeps its state."""
    session = open_graph(path, 1, sizes)
    shapes = {value.name: value.shape for value in session.get_inputs()}
    names = [value.name.replace("next_", "state_") for value in session.get_outputs()[1:]]
    state = {name: np.zeros(shapes[name], np.float32) for name in names}

    def feed(samples: int) -> None:
        noisy = np.random.default_rng(0).standard_normal((1, samples), np.float32)
        inputs = {"noisy": noisy, "present": np.ones(samples // hop, np.float32), **state}
        state.update(zip(names, session.run(None, inputs)[1:], strict=True))

    return feed


def real_time_factor(feed: Callable[[int], object], pattern: tuple[int, ...], seconds: float) -> float:
    """Return the median over the repetitions. pattern: samples of successive calls."""
    calls = pattern * max(1, round(seconds * SAMPLE_RATE / sum(pattern)))
    action, cpu = {"": lambda: [feed(samples) for samples in calls]}, torch.device("cpu")
    took = times_side_by_side(action, REPETITIONS, cpu, warm_up=1, clock=time.process_time)[""]
    return took * SAMPLE_RATE / sum(calls)


def time_shares(step: Step, seconds: float) -> dict[str, float]:
    """Return each part of the network's share of the time, called from Python hop by hop."""
    children = getattr(step, "network", step).named_children()
    parts = {name: part if isinstance(part, nn.ModuleList) else [part] for name, part in children}
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
        for _ in range(round(seconds * SAMPLE_RATE / step.hop)):
            _, state = step(torch.randn(1, step.hop), state)
    total = time.process_time() - start
    for handle in handles:
        handle.remove()
    shares = {part: seconds / total for part, seconds in took.items() if seconds and part != "stft"}
    return shares | {"transforms, mask, state": 1 - sum(shares.values())}


def main() -> None:
    measure_speed(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
