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

from config import PRESETS, SAMPLE_RATE, Config, Positive, PositiveFloat
from models import NETWORKS, build_model, load_model
from models.streaming import StreamingEnhancer, can_stream
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import times_side_by_side, use_threads
from tools.common.run_folder import checkpoint_path
from tools.inference.graph_stream import Graph, GraphStream
from tools.inference.onnx_graphs import export_step

NOISE = 0.1 * np.random.default_rng(0).standard_normal((1, 2 * SAMPLE_RATE)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Arguments:
    checkpoint: tyro.conf.Positional[str]
    """A checkpoint, a run's folder or a network's name; pretrained: the packaged one; paper: the full DCCRN."""
    network: tuple[str, ...] = ()
    """Settings of a network given by its name, as name=value."""
    seconds: PositiveFloat = 2.0
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
    streams: dict[str, StreamingEnhancer | GraphStream] = {"PyTorch": StreamingEnhancer(model, channels=1)}
    hop = streams["PyTorch"].step.hop
    with tempfile.TemporaryDirectory() as folder:
        for label, int8 in (("ONNX", False), ("ONNX int8", True)):
            path = Path(folder) / "step.onnx"
            export_step(model, path, int8)
            streams[label] = GraphStream(Graph(path.read_bytes(), arguments.threads), 1)
    blocks = {"blocks of 2 s": 2 * SAMPLE_RATE, "blocks of 20 ms": SAMPLE_RATE // 50}
    blocks[f"hop by hop ({1000 * hop / SAMPLE_RATE:g} ms)"] = hop
    for label, stream in streams.items():
        for name, samples in blocks.items():
            show(f"{label}, {name}", lambda n, s=stream: s.push(NOISE[:, :n]), samples, seconds)


@torch.inference_mode()
def show(label: str, enhance: Callable[[int], object], samples: int, seconds: float) -> None:
    """Print a row of the table. enhance: enhances a number of samples."""
    calls = max(1, round(seconds * SAMPLE_RATE / samples))
    action, cpu = {"": lambda: [enhance(samples) for _ in range(calls)]}, torch.device("cpu")
    took = times_side_by_side(action, 5, cpu, warm_up=1, clock=time.process_time)[""]
    print(f"| {label} | {took * SAMPLE_RATE / (calls * samples):.3f} |", flush=True)


def main() -> None:
    measure_speed(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
