"""Test a GPU, with the results in one table, in nine minutes at most: `make gpu`.

    python -m tools.check_gpu               # on the GPU; without one, what runs on the CPU
    python -m tools.check_gpu --device cpu

Runs the tests that need a GPU, a short training compared with the CPU's result, bitwise resume, two processes over
nccl, the step in each precision and memory layout and compiled, compared with upstream's structure, the largest
batch, and enhancement. What cannot be shown is listed with the reason; exit code 1 if a result falls short.
"""

import dataclasses
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tools.common.threads import wait_briefly

if __name__ == "__main__":
    wait_briefly()  # before torch loads

import torch

from config import PRESETS, SAMPLE_RATE, Config, Device
from models import build_model, read_checkpoint
from tools.benchmark import enhancements, step_variants, training_steps, variant_step
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import find_device, keep_freed_memory
from tools.common.run_folder import read_history
from tools.common.timing import peak_memory, times_side_by_side
from tools.training.environment import processor

REPOSITORY = Path(__file__).parents[1]
UPSTREAM, UPSTREAM_FILE = "upstream, fp32", str(REPOSITORY / "tests" / "upstream.py")
SECONDS = 3.0  # of an utterance
TINY = ["--preset", "demo", "--kernel_num", "8", "16", "--rnn_units", "8", "--batch_size", "16"]
TINY += ["--valid_scores", "0"]
# Result of two epochs of the demo on a CPU in fp32, one thread, which the same training should reach anywhere.
CPU_SI_SDR, SPREAD = 9.67, 0.6  # dB; between machines, seeds and precisions
TIMES_UPSTREAM = {"cuda": 4.0, "cpu": 1.5}
LARGEST = 1024  # utterances; larger batches are not tried


@dataclasses.dataclass(frozen=True)
class Arguments:
    device: Device = "auto"
    """Where to compute: auto (CUDA if there is a GPU, else CPU), cpu, cuda or cuda:<number>."""
    minutes: float = 9.0
    """Checks that have not started by then are not shown."""


class Row(NamedTuple):
    """A row of the table; fine is None for what is not shown or has no expected value."""

    what: str
    found: str
    expected: str = ""
    fine: bool | None = None


@dataclasses.dataclass(frozen=True)
class Bench:
    """Conditions of the measurements: the full network and the paper's batch on a GPU, the demo's on a CPU."""

    device: torch.device
    end: float  # on time.monotonic's clock
    folder: Path  # an empty working directory with the demo's data
    repetitions: int = 5

    @property
    def config(self) -> Config:
        preset = "paper" if self.on_gpu else "demo"
        return Config(**{**PRESETS[preset], "loss": "SI-SNR+LMS", "precision": "fp32", "device": str(self.device)})

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        return max(1.0, self.end - time.monotonic())

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noisy and clean waveforms, [count, samples] each."""
        noisy, clean = 0.1 * torch.randn(2, count, round(SECONDS * SAMPLE_RATE), device=self.device)
        return noisy, clean

    def network(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return build_model(self.config).to(self.device)

    def train(self, *options: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
        """Start train.py in the folder, on the device."""
        command = [sys.executable, *launcher, str(REPOSITORY / "train.py"), *options, "--device", self.device.type]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self, training: subprocess.Popen) -> None:
        """Wait for a training. Raises RuntimeError with its last line if it fails or takes too long."""
        try:
            output, _ = training.communicate(timeout=self.seconds_left)
        except subprocess.TimeoutExpired:
            training.kill()
            training.communicate()
            raise RuntimeError("took too long") from None
        if training.returncode:
            raise RuntimeError((output.strip().splitlines() or ["no message"])[-1])

    def last_epoch(self, run: str) -> dict[str, float]:
        return read_history(self.folder / "runs" / run)[-1]


def gpu_tests(bench: Bench) -> Iterator[Row]:
    if not bench.on_gpu:
        yield Row("tests that need a GPU", "not shown: computed on a CPU")
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=bench.seconds_left)
    summary = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
    yield Row("tests that need a GPU", summary, "all pass", done.returncode == 0 and "skipped" not in summary)


def short_training(bench: Bench) -> Iterator[Row]:
    for precision in ("fp32", "bf16"):
        options = f"--preset demo --epochs 2 --precision {precision} --name {precision}".split()
        bench.finish(bench.train(*options))
        row = bench.last_epoch(precision)
        si_sdr = row["valid_si_sdr"]
        found = f"{si_sdr:.2f} dB ({row['items_per_second']:.1f} items/s)"
        expected = f"{CPU_SI_SDR} ± {SPREAD} dB"
        what = f"SI-SDR in validation, two epochs of the demo, {precision}"
        yield Row(what, found, expected, abs(si_sdr - CPU_SI_SDR) < SPREAD)


def resume(bench: Bench) -> Iterator[Row]:
    options = [*TINY, "--epochs", "2", "--deterministic", "True", "--checkpoint_minutes", "0.0001"]
    bench.finish(bench.train(*options, "--name", "whole"))
    stopped = bench.train(*options, "--name", "parts")
    last = bench.folder / "runs" / "parts" / "last.pt"
    while not last.exists() and stopped.poll() is None and bench.seconds_left > 1:
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=bench.seconds_left)
    step = read_checkpoint(last)["progress"]["step"]
    bench.finish(bench.train(*options, "--name", "parts"))
    whole, parts = (read_checkpoint(bench.folder / "runs" / run / "last.pt") for run in ("whole", "parts"))
    equal = all(torch.equal(weight, parts["model"][name]) for name, weight in whole["model"].items())
    ended = whole["progress"]["step"]
    found = f"{'the same' if equal else 'other'} bits, stopped after step {step} of {ended}"
    yield Row("weights of a training that was stopped and resumed", found, "the same bits", equal and step < ended)


def two_processes(bench: Bench) -> Iterator[Row]:
    what = f"training loss of two processes over {'nccl' if bench.on_gpu else 'gloo'} and of one"
    if bench.on_gpu and torch.cuda.device_count() < 2:
        yield Row(what, f"not shown: found {torch.cuda.device_count()} GPU")
        return
    options = [*TINY, "--epochs", "1", "--precision", "fp32"]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    bench.finish(bench.train(*options, "--name", "one"))
    bench.finish(bench.train(*options, "--name", "two", launcher=torchrun))
    one, two = (bench.last_epoch(run)["train_loss"] for run in ("one", "two"))
    yield Row(what, f"{two:.5f} and {one:.5f}", "within 0.005", abs(one - two) < 0.005)


def steps(bench: Bench) -> Iterator[Row]:
    config, network = bench.config, bench.network()
    variants = training_steps(config, network, *bench.batch(config.batch_size), UPSTREAM_FILE)
    times = times_side_by_side(variants, bench.repetitions, bench.device)
    for name, took in times.items():
        memory = peak_memory(variants[name], bench.device) / config.batch_size / 1e6
        yield Row(f"step, {name}", f"{_speed(config, took, times[UPSTREAM])}, {memory:.0f} MB an utterance")
    wanted = TIMES_UPSTREAM[bench.device.type]
    best = min((name for name in times if "upstream" not in name), key=times.__getitem__)
    ratio = times[UPSTREAM] / times[best]
    what = f"fastest step ({best}) compared with {UPSTREAM}"
    yield Row(what, f"{ratio:.2f} times as fast", f"{wanted:g} times", ratio >= wanted)


def compiled_steps(bench: Bench) -> Iterator[Row]:
    if not bench.on_gpu:
        yield Row("compiled steps", "not shown: computed on a CPU, where compiling takes minutes")
        return
    config, network, batch = bench.config, bench.network(), bench.batch(bench.config.batch_size)
    upstream = training_steps(config, network, *batch, UPSTREAM_FILE)[UPSTREAM]
    for name, settings in step_variants(cuda=True, compiled=True).items():
        if "compile" not in settings:
            continue
        if time.monotonic() > bench.end:
            yield Row(f"step, {name}", "not shown: no time was left")
            continue
        torch._dynamo.reset()
        both = {name: variant_step(config, network, *batch, **settings), UPSTREAM: upstream}
        times = times_side_by_side(both, bench.repetitions, bench.device)
        yield Row(f"step, {name}", _speed(config, times[name], times[UPSTREAM]))


def largest_batch(bench: Bench) -> Iterator[Row]:
    if not bench.on_gpu:
        yield Row("largest batch", "not shown: computed on a CPU")
        return
    for precision in ("fp32", "bf16"):
        fits, beyond = 0, LARGEST + 1
        while fits + max(1, fits // 8) < beyond:  # to an eighth
            count = min(2 * fits or 1, (fits + beyond) // 2)
            if _fits(bench, precision, count):
                fits = count
            else:
                beyond = count
        yield Row(f"largest batch, {precision}", f"{fits} utterances of {SECONDS:g} s; tried up to {LARGEST}")


def enhancement(bench: Bench) -> Iterator[Row]:
    noisy, _ = bench.batch(bench.config.batch_size)
    times = times_side_by_side(enhancements(bench.config, bench.network(), noisy), bench.repetitions, bench.device)
    for name, took in times.items():
        factor = took / (len(noisy) * SECONDS)
        yield Row(f"enhancement's real-time factor, {name}", f"{factor:.5f}", "below 1", factor < 1)


CHECKS = (gpu_tests, short_training, resume, two_processes, steps, enhancement, largest_batch, compiled_steps)


def check(bench: Bench, checks: tuple[Callable[[Bench], Iterator[Row]], ...] = CHECKS) -> Iterator[Row]:
    """Yield the rows of every check; an error becomes a row and does not stop the other checks."""
    for one in checks:
        name = one.__name__.replace("_", " ")
        if time.monotonic() > bench.end:
            yield Row(name, "not shown: no time was left")
            continue
        try:
            yield from one(bench)
        except (RuntimeError, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
            yield Row(name, (str(error).strip().splitlines() or [type(error).__name__])[-1], "no error", False)


def describe(row: Row) -> str:
    verdict = {None: "", True: "fine", False: "**MISSED**"}[row.fine]
    return f"| {row.what} | {row.found} | {row.expected} | {verdict} |"


def _speed(config: Config, took: float, upstream: float) -> str:
    rate = config.batch_size / took
    return f"{1000 * took:.1f} ms, {rate:.1f} utterances/s, {upstream / took:.2f} times upstream's in fp32"


def _fits(bench: Bench, precision: str, count: int) -> bool:
    """Return whether a step with `count` utterances fits the GPU's memory."""
    try:
        variant_step(bench.config, bench.network(), *bench.batch(count), precision=precision)()
        torch.cuda.synchronize(bench.device)
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def main() -> None:
    arguments = parse_arguments(Arguments, __doc__)
    keep_freed_memory()
    begun = time.monotonic()
    device = find_device(arguments.device)
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else f"{processor()} ({torch.get_num_threads()} threads)"
    print(f"{name}, torch {torch.__version__}\n\n| | found | expected | |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = REPOSITORY / "data"
        data.mkdir(exist_ok=True)
        (Path(folder) / "data").symlink_to(data)
        rows = []
        for row in check(Bench(device, begun + 60 * arguments.minutes, Path(folder))):
            rows.append(row)
            print(describe(row), flush=True)
    missed = sum(row.fine is False for row in rows)
    hidden = sum("not shown" in row.found for row in rows)
    took = (time.monotonic() - begun) / 60
    print(f"\n{missed} of {len(rows)} fell short, {hidden} not shown; {took:.1f} minutes")
    if not on_gpu:
        print("GPU not shown: all of the above was computed on a CPU")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    run_command(main)
