"""Measure how fast a network enhances on this machine.

    python -m tools.speed runs/demo_SI-SNR+LMS/best.pt
    python -m tools.speed GTCRN  # a network's name: random weights, which do not matter for speed
    python -m tools.speed FullSubNet --network normalisation=cumulative

Real-time factor: seconds of processor time for a second of audio; below 1 is fast enough to run live.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import tyro

from config import PRESETS, SAMPLE_RATE, Config, Positive
from models import NETWORKS, build_model, load_model
from models.streaming import StreamingEnhancer, can_stream
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import times_side_by_side, use_threads
from tools.common.run_folder import checkpoint_path
from tools.inference.onnx_graphs import export_step, open_graph

BLOCK = 320  # samples, 20 ms


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
    use_threads(arguments.threads)
    name, seconds = {"paper": "DCCRN"}.get(arguments.checkpoint, arguments.checkpoint), arguments.seconds
    if name in NETWORKS:
        settings = {"model": name, "network": arguments.network}
        model = build_model(Config.from_dict(PRESETS["paper"] | settings)).eval()
    else:
        model = load_model(checkpoint_path(name))
    print(f"| real-time factor of {name} | |\n|---|---|", flush=True)
    whole = round(seconds * SAMPLE_RATE)
    show("PyTorch, all at once", lambda samples: model(torch.randn(1, samples)), whole, seconds)
    if not can_stream(model):
        return
    stream = StreamingEnhancer(model)
    hop = stream.step.hop
    by_hop = f"hop by hop ({1000 * hop / SAMPLE_RATE:g} ms)"
    show("PyTorch, blocks of 20 ms", lambda samples: stream.push(torch.randn(samples)), BLOCK, seconds)
    show(f"PyTorch, {by_hop}", lambda samples: stream.push(torch.randn(samples)), hop, seconds)
    with tempfile.TemporaryDirectory() as folder:
        for label, int8 in (("ONNX", False), ("ONNX int8", True)):
            export_step(model, Path(folder) / "step.onnx", int8)
            show(f"{label}, {by_hop}", onnx_stream(Path(folder) / "step.onnx", hop), hop, seconds)


@torch.inference_mode()
def show(label: str, enhance: Callable[[int], object], samples: int, seconds: float) -> None:
    """Print a row of the table. enhance: enhances a number of samples."""
    calls = max(1, round(seconds * SAMPLE_RATE / samples))
    action, cpu = {"": lambda: [enhance(samples) for _ in range(calls)]}, torch.device("cpu")
    took = times_side_by_side(action, 5, cpu, warm_up=1, clock=time.process_time)[""]
    print(f"| {label} | {took * SAMPLE_RATE / (calls * samples):.3f} |", flush=True)


def onnx_stream(path: Path, hop: int) -> Callable[[int], None]:
    """Return a function that feeds a hop to the graph and keeps its state."""
    session = open_graph(path, 1, {"hops": 1, "block": hop})
    inputs = {value.name: np.ones(value.shape, np.float32) for value in session.get_inputs()}
    names = [value.name.replace("next_", "state_") for value in session.get_outputs()[1:]]

    def feed(_: int) -> None:
        inputs.update(zip(names, session.run(None, inputs)[1:], strict=True))

    return feed


def main() -> None:
    measure_speed(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
