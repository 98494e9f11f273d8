"""Train and test a list of losses with one config, and compare them.

    python -m tools.sweep --seeds 0 1 2 -- --data data/mycorpus --batch_size 15
    python -m tools.sweep --seeds 0 1 2 --tune learning_rate -- --data data/mycorpus  # each loss with its own rate

Settings after `--` are for train.py. Finished runs are skipped: rerun the same command to resume. `--dry_run`
prints the commands; `--slurm` prints a job array for sbatch.
"""

import contextlib
import itertools
import os
import queue
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from msgspec import Meta

from config import Config, Device, FolderName, Positive
from losses import build_loss
from losses.names import PAPER_LOSSES
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import find_device
from tools.common.errors import UserError
from tools.common.files import write_csv
from tools.common.processes import cores
from tools.common.run_folder import is_tested, read_config, read_history
from tools.common.settings import parse_config
from tools.reports.comparison import choose_rate
from tools.reports.report import CompareSettings, compare
from tools.training.distributed import Processes
from tools.training.precision import settle_precision
from tools.training.run import is_trained

MOST_RATES, EDGE_FACTOR = 7, 3
REPOSITORY = Path(__file__).parents[1]
TRAIN, TEST = ((sys.executable, str(REPOSITORY / program)) for program in ("train.py", "test.py"))


@dataclass(frozen=True)
class SweepSettings:
    """What to train, where, and under which name."""

    losses: Annotated[tuple[str, ...], Meta(min_length=1)] = PAPER_LOSSES
    """Losses to compare; the first is the baseline. One alone is trained and tested only."""
    seeds: Annotated[tuple[int, ...], Meta(min_length=1)] = (0,)
    """Seeds to train each loss with."""
    name: FolderName = "sweep"
    """Runs are called <name>_<loss>_seed<seed>, and the comparison results/<name>/."""
    devices: Annotated[tuple[Device, ...], Meta(min_length=1)] = ("auto",)
    """Devices, with one process on each: auto, cpu, cuda:0 cuda:1 …; cpu cpu shares the cores between two."""
    jobs: Positive = 1
    """Processes on each device; on a GPU, which small trainings do not fill, under NVIDIA's MPS if it is there."""
    tune: Literal["", "learning_rate"] = ""
    """learning_rate: first tune it for each loss by short trainings with the first seed (Kolbæk et al. 2020)."""
    tune_rates: tuple[Annotated[float, Meta(gt=0)], ...] = ()
    """Learning rates to try first; by default a third, one and three times that of the training. While the best is
    the lowest or highest, a third of it or three times as much is tried as well."""
    tune_epochs: Annotated[int, Meta(ge=0)] = 0
    """Epochs of the short trainings; 0 for a third of the training."""
    rates: Path | None = None
    """Take the learning rates from the table of an earlier tuning, results/<name>/tuning.csv."""
    dry_run: bool = False
    """Print the commands and run nothing."""
    slurm: bool = False
    """Print a job array for sbatch, a task a run, and the comparison as the last line to run; run nothing."""


@dataclass(frozen=True)
class Job:
    """One run of the sweep: its config, and the commands that train and test it, or only train it to tune."""

    config: Config
    commands: tuple[list[str], ...]

    @property
    def is_done(self) -> bool:
        """Return whether it is trained to its last epoch and, if it includes a test, tested since."""
        tested = len(self.commands) == 1 or is_tested(self.config.run_dir, self.config.data)
        return tested and is_trained(self.config)


def plan(settings: SweepSettings, options: Sequence[str], rates: Mapping[str, float] | None = None) -> list[Job]:
    """Return the sweep's runs, ordered by seed, then loss. Raises UserError for a config that cannot be used.

    rates: the learning rate of each loss, if they were tuned.
    """
    jobs = []
    for seed, loss in itertools.product(settings.seeds, settings.losses):
        name = Config(name=f"{settings.name}_{{loss}}_seed{{seed}}", loss=loss, seed=seed).run_name
        arguments = [*options, "--name", name, "--loss", loss, "--seed", str(seed)]
        arguments += ["--learning_rate", f"{rates[loss]:g}"] if rates else []
        config = parse_config("", arguments)
        build_loss(config.loss, config.coupling, config.balance)
        test = [*TEST, "--name", name, "--data", config.data]
        jobs.append(Job(config, ([*TRAIN, *arguments], test)))
    return refuse_doubles(jobs)


def first_rates(settings: SweepSettings, options: Sequence[str]) -> dict[str, list[float]]:
    """Return the learning rates to try first with each loss."""
    rate = parse_config("", options).learning_rate
    first = settings.tune_rates or (rate / EDGE_FACTOR, rate, rate * EDGE_FACTOR)
    return {loss: [float(f"{rate:.3g}") for rate in first] for loss in settings.losses}


def plan_tuning(
    settings: SweepSettings, options: Sequence[str], rates: Mapping[str, Sequence[float]]
) -> list[Job]:
    """Return the short trainings, of each loss with its learning rates. Raises UserError as `plan`."""
    epochs = settings.tune_epochs or max(1, parse_config("", options).epochs // 3)
    jobs = []
    for loss, rate in ((loss, rate) for loss, own in rates.items() for rate in own):
        name = Config(name=f"{settings.name}_tune_{{loss}}_rate{rate:.3g}", loss=loss).run_name
        arguments = [*options, "--seed", str(settings.seeds[0]), "--epochs", str(epochs), "--name", name]
        arguments += ["--loss", loss, "--learning_rate", f"{rate:.3g}"]
        jobs.append(Job(parse_config("", arguments), ([*TRAIN, *arguments],)))
    return refuse_doubles(jobs)


def refuse_doubles(jobs: list[Job]) -> list[Job]:
    """Return the jobs; UserError if two have the same name."""
    names = [job.config.run_name for job in jobs]
    if len(set(names)) < len(names):
        raise UserError(f"losses, seeds, tune_rates: found {', '.join(names)}, expected each run once")
    return jobs


def fix_precision(settings: SweepSettings, options: Sequence[str]) -> list[str]:
    """Return the options with one precision for all runs: that of a started run, or what `auto` becomes here."""
    config = parse_config("", options)
    if config.precision != "auto":
        return list(options)
    run_dirs = [job.config.run_dir for job in plan(settings, options)]
    started = [run_dir for run_dir in run_dirs if (run_dir / "config.json").is_file()]
    config = read_config(started[0]) if started else config
    config, _ = settle_precision(config, Processes(find_device(settings.devices[0])))
    return [*options, "--precision", config.precision]


def sweep(settings: SweepSettings, options: Sequence[str]) -> list[str]:
    """Run unfinished runs, then compare those that succeeded; return the names of those that failed."""
    settings = replace(settings, losses=tuple("".join(loss.split()) for loss in settings.losses))
    own = [option for option in options if option.split("=")[0] in ("--name", "--loss", "--seed", "--device")]
    if own:
        raise UserError(f"{own[0]}: found it after --, but the sweep sets it; give it before --")
    if not settings.tune and (settings.tune_rates or settings.tune_epochs):
        raise UserError("tune_rates, tune_epochs: found without --tune learning_rate; add it, or leave them out")
    if settings.slurm and settings.tune:
        raise UserError("slurm: found with --tune, whose rates are not known before; sweep without one of the two")
    if not settings.slurm:
        options = fix_precision(settings, options)
    rates = read_rates(settings, settings.rates) if settings.rates else None
    jobs = plan(settings, options, rates)
    tried = first_rates(settings, options) if settings.tune else {}
    tuning = plan_tuning(settings, options, tried)
    if settings.slurm or settings.dry_run:
        print(slurm_script(settings, jobs) if settings.slurm else list_commands([*tuning, *jobs]))
        runs = [job.config.run_name for job in jobs]
        where = ["--name", settings.name, "--baseline", runs[0], "--data", jobs[0].config.data]
        if len(settings.losses) > 1:
            print(shlex.join(["python", "-m", "tools.compare", *runs, *where]))
        return []
    table, failed, tuned = settings.rates, [], []
    devices = [str(find_device(device)) for device in settings.devices] * settings.jobs
    while tuning:
        failed += run_jobs([job for job in tuning if not job.is_done], devices)
        tuned += [job.config for job in tuning if job.config.run_name not in failed]
        table = choose_rates(settings, tuned)
        rates = read_rates(settings, table)
        jobs = plan(settings, options, rates)
        beyond = {loss: [rate] for loss, own in tried.items() if (rate := beyond_edge(rates[loss], own))}
        tried = {loss: own + beyond.get(loss, []) for loss, own in tried.items()}
        tuning = plan_tuning(settings, options, beyond)
    failed += run_jobs([job for job in jobs if not job.is_done], devices)
    done = [job.config for job in jobs if job.config.run_name not in failed]
    if len({config.loss for config in done}) > 1:
        runs = tuple(config.run_name for config in done)
        compare(CompareSettings(runs, runs[0], settings.name, data=jobs[0].config.data, tuning=table))
    return failed


def read_rates(settings: SweepSettings, path: Path) -> dict[str, float]:
    """Return the learning rate of each loss from a table of `choose_rates`; UserError if one has none."""
    table = pd.read_csv(path)
    rates = table[table["chosen"]].set_index("loss")["learning_rate"].to_dict()
    if missing := set(settings.losses) - rates.keys():
        raise UserError(f"{path}: has no learning rate of {', '.join(sorted(missing))}")
    return rates


def beyond_edge(best: float, tried: Sequence[float]) -> float | None:
    """Return a rate beyond the edge of those tried if the best lies there; None after MOST_RATES."""
    if len(tried) >= MOST_RATES or min(tried) < best < max(tried):
        return None
    return float(f"{best * EDGE_FACTOR if best >= max(tried) else best / EDGE_FACTOR:.3g}")


def choose_rates(settings: SweepSettings, tried: Sequence[Config]) -> Path:
    """Write a table of the learning rates tried with each loss, one of them chosen; return its path."""
    chosen = []
    for loss in settings.losses:
        histories = {c.learning_rate: pd.DataFrame(read_history(c.run_dir)) for c in tried if c.loss == loss}
        if not histories:
            raise UserError(f"tune: all trainings with {loss} failed, see above; try lower --tune_rates")
        chosen.append(choose_rate(loss, histories))
    table, path = pd.concat(chosen, ignore_index=True), Path("results") / settings.name / "tuning.csv"
    write_csv(path, table.to_dict("records"))
    print(table[table["chosen"]].to_string(index=False), flush=True)
    return path


def run_jobs(jobs: Sequence[Job], devices: Sequence[str]) -> list[str]:
    """Run the jobs, one at a time on each device; return the names of those that failed."""
    free, running, stopped = queue.SimpleQueue(), set(), threading.Event()
    for device in devices:
        free.put(device)
    environment = dict(os.environ)
    if devices.count("cpu") > 1:  # else every process would use all cores
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // devices.count("cpu"))))

    def work(number: int, job: Job) -> bool:
        """Run a job on the next free device; return whether it failed."""
        device = free.get()
        try:
            # one write a line, so that lines of several devices are not mixed
            print(f"{job.config.run_name} on {device}, {number} of {len(jobs)}\n", end="", flush=True)
            for command in job.commands:
                with subprocess.Popen([*command, "--device", device], env=environment) as process:
                    running.add(process)
                    if stopped.is_set():  # it began just now
                        process.terminate()
                    code = process.wait()
                    running.discard(process)
                if code:
                    return True
            return False
        finally:
            free.put(device)

    with shared_gpus(devices), ThreadPoolExecutor(len(devices)) as pool:
        try:
            failed = list(pool.map(work, itertools.count(1), jobs))
        except BaseException:  # Ctrl-C or SIGTERM: running jobs write their checkpoints, and no other is started
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    return [job.config.run_name for job, has_failed in zip(jobs, failed, strict=True) if has_failed]


@contextlib.contextmanager
def shared_gpus(devices: Sequence[str]) -> Iterator[None]:
    """Run NVIDIA's MPS within, by which processes on one GPU compute at the same time, unless it runs already."""
    control = "nvidia-cuda-mps-control"
    shared = any(device != "cpu" and devices.count(device) > 1 for device in devices) and shutil.which(control)
    started = shared and not subprocess.run([control, "-d"], capture_output=True).returncode
    try:
        yield
    finally:
        if started:
            subprocess.run([control], input=b"quit\n", capture_output=True)


def list_commands(jobs: Sequence[Job]) -> str:
    """Return the commands of unfinished runs, each after a comment with the run's name."""
    lines = []
    for job in jobs:
        lines.append(f"# {job.config.run_name}: {'finished, skipped' if job.is_done else 'to do'}")
        lines += [] if job.is_done else map(shlex.join, job.commands)
    return "\n".join(lines)


def slurm_script(settings: SweepSettings, jobs: Sequence[Job]) -> str:
    """Return a job array for sbatch with a task for each run; finished ones end at once."""
    tasks = "\n".join(f"{n}) {' && '.join(map(shlex.join, job.commands))} ;;" for n, job in enumerate(jobs))
    return f"""#!/bin/bash
#SBATCH --job-name={settings.name}
#SBATCH --array=0-{len(jobs) - 1}
#SBATCH --gres=gpu:1
case $SLURM_ARRAY_TASK_ID in
{tasks}
esac
exit  # once all tasks are done:"""


def main() -> None:
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    failed = sweep(parse_arguments(SweepSettings, __doc__, own), options)
    if failed:
        sys.exit(f"error: {', '.join(failed)}: failed, see above; the same command again runs what is missing")


if __name__ == "__main__":
    run_command(main)
