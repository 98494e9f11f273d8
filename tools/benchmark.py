"""Measure the speed of training, enhancement, loading and scoring on this machine, for any config.

    python -m tools.benchmark --batch_size 4                 # the full network, on a GPU if there is one
    python -m tools.benchmark --preset demo --json out.json
    python -m tools.benchmark --against tests/upstream.py    # compared with the published structure

All variants are measured in turn, so that their ratios hold on a busy machine too. The rate of convolutions and
matrix products in a step is compared with that of a large matrix product on the same device.
"""

import copy
import dataclasses
import functools
import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tools.common.threads import wait_briefly

if __name__ == "__main__":
    wait_briefly()  # before torch loads

import torch
from torch import nn

from config import PRESETS, SAMPLE_RATE, Config
from dataloader import build_loader, shuffle_for_epoch
from losses import build_loss
from models import build_model
from tools.common.command_line import run_command
from tools.common.device import find_device, keep_freed_memory, use_threads
from tools.common.errors import UserError
from tools.common.files import write_text
from tools.common.timing import count_flops, matrix_rate, peak_memory, time_shares, times_side_by_side
from tools.reports.tables import markdown_table
from tools.scoring.scores import ScorePool
from tools.training.distributed import Processes
from tools.training.environment import processor
from tools.training.precision import arrange_channels, autocast, set_kernels
from tools.training.progress import Learner, WeightAverage
from tools.training.settings import Arguments, parse_with_config
from train import train_step

SCORED = 8  # items for each core


@dataclasses.dataclass(frozen=True)
class BenchmarkArguments(Arguments):
    preset: Literal[tuple(PRESETS)] = "paper"  # type: ignore[valid-type]
    """Named set of settings to start from; settings on the command line override it."""
    seconds: float = 3.0
    """Length of the utterances."""
    repetitions: int = 5
    """Number of measurements, of which the median counts."""
    against: str = ""
    """Python file with a function build(model) that returns another network to measure as well."""
    json: str = ""
    """File to write the figures to, in addition."""


def benchmark(config: Config, seconds: float, repetitions: int, against: str = "") -> dict[str, Any]:
    """Return all figures as plain values. against: the Python file of a network to compare with, or empty."""
    if repetitions < 1 or not 0.1 <= seconds <= 3600:
        raise UserError(f"repetitions, seconds: found {repetitions}, {seconds}, expected 1 or more, 0.1 to 3600")
    device = find_device(config.device)
    use_threads(config.threads)
    noisy, clean = 0.1 * torch.randn(2, config.batch_size, round(seconds * SAMPLE_RATE), device=device)
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {processor()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch": config.batch_size,
        "seconds": seconds,
        "weights": sum(p.numel() for p in model.parameters()),
        "matrix_rate": {"fp32": matrix_rate(torch.float32, device), "bf16": matrix_rate(torch.bfloat16, device)},
    }
    steps = training_steps(config, model, noisy, clean, against)
    flops = count_flops(steps["fp32"])
    times = times_side_by_side(steps, repetitions, device)
    figures["flops"] = flops
    figures["baseline"] = baseline = f"{Path(against).stem}, fp32" if against else "fp32"
    figures["training"] = {
        name: {
            "seconds": took,
            "utterances_per_second": config.batch_size / took,
            "times_baseline": times[baseline] / took,
            "of_matrix_rate": flops / took / figures["matrix_rate"]["bf16" if "bf16" in name else "fp32"],
            "peak_bytes_an_utterance": peak_memory(steps[name], device) / config.batch_size,
        }
        for name, took in times.items()
    }
    figures["shares"] = {name: time_shares(steps[name], device) for name in ("fp32", "bf16")}
    passes = enhancements(config, model, noisy)
    figures["enhancement"] = {
        name: {"seconds": took, "real_time_factor": took / (config.batch_size * seconds)}
        for name, took in times_side_by_side(passes, repetitions, device).items()
    }
    figures["scoring"] = scoring_rate(noisy, clean)
    if Path(config.data).exists():
        figures["loading"] = {"items_per_second": loading_rate(config, device)}
    return figures


def training_steps(
    config: Config, model: nn.Module, noisy: torch.Tensor, clean: torch.Tensor, against: str
) -> dict[str, Callable[[], object]]:
    """Return a step in each precision and memory layout, and steps of the network that `against` builds."""
    steps = {
        name: variant_step(config, model, noisy, clean, **settings)
        for name, settings in step_variants(noisy.is_cuda, config.compile).items()
    }
    if against:
        network = build_other(Path(against), model).to(noisy.device)
        for precision in ("fp32", "bf16"):
            name = f"{Path(against).stem}, {precision}"
            steps[name] = variant_step(config, network, noisy, clean, precision=precision)
    return steps


def build_other(path: Path, model: nn.Module) -> nn.Module:
    """Return the result of the file's `build(model)`. Raises UserError if that fails."""
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.build(model)
    except Exception as error:  # the file is the user's
        raise UserError(f"against: {path}, build(model): {type(error).__name__}: {error}") from None


def step_variants(cuda: bool, compiled: bool) -> dict[str, dict[str, Any]]:
    """Return the settings of each variant of a step, by name."""
    precisions = ("fp32", "tf32", "bf16") if cuda else ("fp32", "bf16")
    layouts = {"": {}, ", channels last": {"channels_last": True}} if cuda else {"": {}}
    plain = {
        precision + name: {"precision": precision} | layout
        for precision, (name, layout) in itertools.product(precisions, layouts.items())
    }
    if not compiled:
        return plain
    return plain | {f"{name}, compiled": settings | {"compile": True} for name, settings in plain.items()}


def variant_step(
    config: Config, model: nn.Module, noisy: torch.Tensor, clean: torch.Tensor, **settings: Any
) -> Callable[[], object]:
    """Return a training step of a copy of the network, with some settings changed."""
    plain = {"accumulate": 1, "compile": False, "channels_last": False}
    config, model = dataclasses.replace(config, **plain | settings), copy.deepcopy(model)
    arrange_channels(model, config, noisy.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
    loss_fn = build_loss(config.loss, config.coupling, config.balance).to(noisy.device)
    learner = Learner(model, WeightAverage(model, 0), loss_fn, optimizer)
    if config.compile:
        model.estimate = torch.compile(model.estimate)
    processes = Processes(noisy.device)

    def step() -> None:
        set_kernels(config)
        model.train()
        train_step(config, learner, model, noisy, clean, len(noisy), processes)

    return step


def enhancements(config: Config, model: nn.Module, noisy: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return enhancement of a batch of utterances in each precision, by name."""
    model = copy.deepcopy(model).eval()

    @torch.inference_mode()
    def enhance(settings: Config) -> None:
        set_kernels(settings)
        with autocast(settings, noisy.device):
            model(noisy)

    precisions = ("fp32", "bf16")
    return {name: functools.partial(enhance, dataclasses.replace(config, precision=name)) for name in precisions}


def scoring_rate(noisy: torch.Tensor, clean: torch.Tensor) -> dict[str, float]:
    """Return the number of processes, and the items a second that they score in validation."""
    with ScorePool() as pool:
        count = SCORED * pool.processes
        pair = (clean[0].cpu().numpy(), noisy[0].cpu().numpy())

        def score() -> None:
            for future in [pool.score(*pair, Config.valid_metrics) for _ in range(count)]:
                future.result()

        took = times_side_by_side({"score": score}, 1, torch.device("cpu"), warm_up=1)["score"]
        return {"processes": pool.processes, "items_per_second": count / took}


def loading_rate(config: Config, device: torch.device) -> float:
    """Return the training items a second of the loader, after its processes have started."""
    loader = build_loader(config, "train", device)

    def load() -> int:
        return sum(len(noisy) for noisy, _, _ in loader)

    shuffle_for_epoch(loader, 0, 1)
    items = load()
    return items / times_side_by_side({"load": load}, 1, device, warm_up=0)["load"]


def describe(figures: dict[str, Any]) -> str:
    """Return the figures as tables."""
    rates = {name: rate / 1e9 for name, rate in figures["matrix_rate"].items()}
    lines = [
        f"{figures['device']}, {figures['threads']} threads, torch {figures['torch']}; {figures['weights']:,} "
        f"weights, batch {figures['batch']} × {figures['seconds']:g} s, {figures['flops'] / 1e9:.1f} GFLOP a step",
        f"Matrix products: {rates['fp32']:,.0f} GFLOP/s in fp32, {rates['bf16']:,.0f} in bf16\n",
    ]
    steps = {
        name: [
            f"{row['seconds']:.3f}",
            f"{row['utterances_per_second']:.2f}",
            f"{row['times_baseline']:.2f}",
            f"{row['of_matrix_rate']:.0%}",
            f"{row['peak_bytes_an_utterance'] / 1e6:.0f}",
        ]
        for name, row in figures["training"].items()
    }
    heads = [
        "seconds",
        "utterances/s",
        f"times as fast as {figures['baseline']}",
        "of the matrix rate",
        "peak MB an utterance",
    ]
    lines.append(markdown_table("training step", heads, steps))
    for name, shares in figures["shares"].items():
        listed = ", ".join(f"{kind} {share:.0%}" for kind, share in sorted(shares.items(), key=lambda s: -s[1]))
        lines.append(f"\nWhere the time of a {name} step goes: {listed}")
    rest = {
        f"enhancement, {name}": [f"{1 / row['real_time_factor']:.1f} times as fast as real time"]
        for name, row in figures["enhancement"].items()
    }
    scoring = figures["scoring"]
    rest["scoring"] = [f"{scoring['items_per_second']:.1f} items/s in {scoring['processes']} processes"]
    if "loading" in figures:
        rest["loading"] = [f"{figures['loading']['items_per_second']:,.0f} items/s"]
    return "\n".join([*lines, "", markdown_table("", [""], rest)])


def main() -> None:
    arguments = parse_with_config(BenchmarkArguments, __doc__)
    keep_freed_memory()
    figures = benchmark(arguments.config, arguments.seconds, arguments.repetitions, arguments.against)
    print(describe(figures))
    if arguments.json:
        write_text(arguments.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main)
