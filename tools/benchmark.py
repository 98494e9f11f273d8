"""Measure how fast a network trains and enhances on this device, row by row, each printed as soon as it is known.

    python -m tools.benchmark --batch_size 4                  # the full network, on a GPU if there is one
    python -m tools.benchmark --preset demo --json rows.jsonl
    python -m tools.benchmark --against tests/upstream.py     # compared with the published structure

A step is measured in turn with the baseline, a plain step in fp32 or that of the network to compare with: their
ratio holds on a busy machine too. A row that fails says so, and the next one begins.
"""

import copy
import dataclasses
import json
import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from config import SAMPLE_RATE, Config
from dataloader import build_loader, shuffle_for_epoch
from losses import build_loss
from models import build_model
from tools.common.command_line import run_command
from tools.common.device import find_device, keep_freed_memory, times_side_by_side, use_threads
from tools.common.settings import Arguments, parse_with_config
from tools.training.distributed import Processes
from tools.training.precision import arrange_channels, lack_of_bf16, set_kernels
from tools.training.state import TrainingState
from train import autocast, train_step


@dataclasses.dataclass(frozen=True)
class BenchmarkArguments(Arguments):
    seconds: float = 3.0
    """Length of the utterances."""
    repetitions: int = 5
    """Number of measurements, of which the median counts."""
    against: str = ""
    """Python file with a function build(model) that returns another network to measure as well."""
    json: str = ""
    """File to append each row to, as a line of JSON."""


class Benchmark:
    """The rows for a network and its settings."""

    def __init__(self, config: Config, arguments: BenchmarkArguments) -> None:
        self.config, self.arguments = config, arguments
        self.device = find_device(self.config.device)
        self.audio = self.config.batch_size * arguments.seconds  # seconds in a batch
        shape = 2, self.config.batch_size, round(arguments.seconds * SAMPLE_RATE)
        self.noisy, self.clean = 0.1 * torch.randn(shape, device=self.device)
        self.model = self.other = build_model(self.config).to(self.device)
        if arguments.against:
            self.other = runpy.run_path(arguments.against)["build"](self.model).to(self.device)
        self.baseline = partial(variant_step(self.config, self.other), self.noisy, self.clean)
        with FlopCounterMode(display=False) as counter:  # two a multiply-add, without LSTMs on a CPU
            variant_step(self.config, self.model)(self.noisy, self.clean)
        self.flops = counter.get_total_flops()

    def rows(self) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
        """Yield the name of each row and the function that measures it, by unit; what takes long comes last."""
        on_gpu = self.device.type == "cuda"
        precisions = ["fp32", "tf32"] if on_gpu else ["fp32"]
        precisions += [] if lack_of_bf16(self.device) else ["bf16"]
        variants = [{}, {"channels_last": True}] + [{"graph": True}, {"compile": True}] * on_gpu
        for precision in precisions:
            yield f"convolution, {precision}", partial(self.convolution, precision)
            yield f"enhancement, {precision}", partial(self.enhancement, precision)
        if Path(self.config.data).exists():
            yield f"loading {self.config.data}", self.loading
        for precision in precisions if self.arguments.against else ():
            yield f"step of {self.arguments.against}, {precision}", partial(self.step, self.other, precision)
        for variant in variants:
            for precision in precisions:
                name = ", ".join(["step", precision, *variant])
                yield name, partial(self.step, self.model, precision, **variant)

    def convolution(self, precision: str) -> dict[str, float]:
        """Measure the rate of a convolution like the network's widest, in the memory format that suits it."""
        set_kernels(dataclasses.replace(self.config, precision=precision))
        form = {"dtype": torch.bfloat16 if precision == "bf16" else torch.float32, "device": self.device}
        conv = nn.Conv2d(256, 256, (5, 2), **form).to(memory_format=torch.channels_last)
        x = torch.randn(8, 256, 36, 201, **form).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            took = times_side_by_side({"": lambda: conv(x)}, self.arguments.repetitions, self.device)[""]
        return {"TFLOP/s": 2 * 8 * 256 * 256 * 10 * 32 * 200 / took / 1e12}

    def step(self, model: nn.Module, precision: str, graph: bool = False, **settings: Any) -> dict[str, float]:
        step = partial(variant_step(self.config, model, precision=precision, **settings), self.noisy, self.clean)
        both = {"": capture(step) if graph else step, "baseline": self.baseline}
        times = times_side_by_side(both, self.arguments.repetitions, self.device)
        figures = {
            "ms": 1000 * times[""],
            "s of audio a second": self.audio / times[""],
            "times as fast as the baseline": times["baseline"] / times[""],
            "TFLOP/s": self.flops / times[""] / 1e12,
        }
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            step()
            used = torch.cuda.max_memory_allocated(self.device) - torch.cuda.memory_allocated(self.device)
            figures["MB an utterance"] = used / len(self.noisy) / 1e6
        return figures

    def enhancement(self, precision: str) -> dict[str, float]:
        config, model = dataclasses.replace(self.config, precision=precision), copy.deepcopy(self.model).eval()
        set_kernels(config)
        with torch.inference_mode(), autocast(config, self.device):
            enhance = {"": lambda: model(self.noisy)}
            took = times_side_by_side(enhance, self.arguments.repetitions, self.device)[""]
        return {"ms": 1000 * took, "s of audio a second": self.audio / took}

    def loading(self) -> dict[str, float]:
        """Measure the loader: a step waits for it if it gives less audio a second than the step uses."""
        loader = build_loader(self.config, "train", self.device)
        shuffle_for_epoch(loader, self.config.seed, 1)
        audio = len(loader.dataset) * loader.dataset.samples / SAMPLE_RATE
        load = {"": lambda: sum(map(len, loader))}  # the first time, the loader starts its processes
        took = times_side_by_side(load, 1, self.device, warm_up=1)[""]
        return {"s of audio a second": audio / took}


def variant_step(config: Config, model: nn.Module, **settings: Any) -> Callable[[Tensor, Tensor], object]:
    """Return a training step for noisy and clean, plain and in fp32 unless `settings` say otherwise, of a copy."""
    plain = {"precision": "fp32", "channels_last": False, "compile": False, "accumulate": 1}
    config, model = dataclasses.replace(config, **plain | settings), copy.deepcopy(model).train()
    processes = Processes(next(model.parameters()).device)
    arrange_channels(model, config, processes.device)
    loss_fn = build_loss(config.loss, config.coupling, config.balance).to(processes.device)
    state = TrainingState(model, loss_fn, processes)
    state.set_rate(1e-6)
    for optimizer in state.optimizers.values():
        optimizer.param_groups[0]["capturable"] = processes.device.type == "cuda"
    if config.compile:
        torch.compiler.reset()
        model.apply_layers = torch.compile(model.apply_layers)

    def step(noisy: Tensor, clean: Tensor) -> None:
        set_kernels(config)
        train_step(config, state, noisy, clean, len(noisy))

    return step


def capture(step: Callable[[], object]) -> Callable[[], object]:
    """Return a function that repeats a step as one CUDA graph."""
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main() -> None:
    config, arguments = parse_with_config(BenchmarkArguments, __doc__)
    keep_freed_memory()
    threads = use_threads(config.threads)
    bench = Benchmark(config, arguments)
    where = torch.cuda.get_device_name() if bench.device.type == "cuda" else f"CPU, {threads} threads"
    about = {"model": config.model, "device": where, "torch": torch.__version__, "seconds": bench.audio}
    print(f"{about}\n\n| row | |\n|---|---|", flush=True)
    for name, row in bench.rows():
        try:
            figures = row()
        except Exception as error:  # whatever a GPU or a compiler raises
            figures = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        texts = [value if unit == "error" else f"{value:,.4g} {unit}" for unit, value in figures.items()]
        print(f"| {name} | {', '.join(texts)} |", flush=True)
        if arguments.json:
            with Path(arguments.json).open("a", encoding="utf-8") as file:
                file.write(json.dumps(about | {"row": name} | figures) + "\n")


if __name__ == "__main__":
    run_command(main)
