"""Trains and tests a list of losses with one config, and compares them.

    python -m tools.sweep --seeds 0 1 2 -- --data data/mycorpus --batch_size 15

What follows `--` are settings for train.py. Finished runs are skipped, so that the same command goes on where an
interrupted one stopped. `--dry_run` prints the commands; `--slurm` prints a job array for sbatch.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from config import Config
from losses import build_loss
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import find_device
from tools.common.errors import UserError
from tools.common.processes import cores
from tools.common.run_folder import read_config, test_folder
from tools.compare import CompareSettings, compare
from tools.training.distributed import Processes
from tools.training.precision import settle_precision
from tools.training.resume import is_trained
from tools.training.settings import parse_config

PAPER_LOSSES = ("MSE", "MSE+LMS", "MSE+PMSQE", "SI-SNR", "SI-SNR+LMS", "SI-SNR+PMSQE")
REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class SweepSettings:
    """What to train, where, and what to call it."""

    losses: tuple[str, ...] = PAPER_LOSSES
    """Losses to compare; the first is the baseline."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to train each loss with."""
    name: str = "sweep"
    """Runs are called <name>_<loss>_seed<seed>, and the comparison results/<name>/."""
    devices: tuple[str, ...] = ("auto",)
    """One process on each: auto, cpu, cuda:0 cuda:1 …; cpu cpu shares the cores between two."""
    dry_run: bool = False
    """Print the commands and run nothing."""
    slurm: bool = False
    """Print a job array for sbatch, a task a run, and the comparison as the last line to run; run nothing."""


@dataclass(frozen=True)
class Job:
    """One run of the sweep: its config and the commands that train and test it."""

    config: Config
    commands: tuple[tuple[str, ...], ...]

    @property
    def is_done(self) -> bool:
        """Trained to its last epoch, and tested since."""
        scores, best = self.config.run_dir / "test" / "scores.csv", self.config.run_dir / "best.pt"
        if not scores.is_file():  # where earlier versions wrote it
            scores = test_folder(self.config.run_dir, self.config.data) / "scores.csv"
        return is_trained(self.config) and scores.is_file() and scores.stat().st_mtime >= best.stat().st_mtime


def plan(settings: SweepSettings, options: list[str]) -> list[Job]:
    """Return the sweep's runs, losses of one seed side by side; raises the errors of their configs before any
    trains.
    """
    if not settings.losses or not settings.seeds or not settings.devices:
        raise UserError("losses, seeds and devices: expected at least one of each")
    runs = [(seed, loss) for seed in settings.seeds for loss in settings.losses]
    names = [
        Config(name=f"{settings.name}_{{loss}}_seed{{seed}}", loss=loss, seed=seed).run_name for seed, loss in runs
    ]
    if not settings.slurm:
        options = [*options, *one_precision(parse_config("", options), names, settings.devices[0])]
    jobs = []
    for (seed, loss), name in zip(runs, names, strict=True):
        arguments = [*options, "--name", name, "--loss", loss, "--seed", str(seed)]
        config = parse_config("", arguments)
        build_loss(config.loss, config.coupling, config.balance)
        test = ["--name", name, "--data", config.data]
        jobs.append(Job(config, (_command("train.py", arguments), _command("test.py", test))))
    return jobs


def one_precision(config: Config, names: Sequence[str], device: str) -> list[str]:
    """Return the options that give all runs the precision that `auto` became in one of them, or becomes here."""
    if config.precision != "auto":
        return []
    started = [Path("runs") / name for name in names if (Path("runs") / name / "config.json").is_file()]
    if started:
        config = read_config(started[0])
    settled, _ = settle_precision(config, Processes(find_device(device)))
    return ["--precision", settled.precision]


def sweep(settings: SweepSettings, options: list[str]) -> None:
    """Run what is not finished, then the comparison; UserError if a run fails, once the others are done."""
    jobs = plan(settings, options)
    runs = [job.config.run_name for job in jobs]
    comparison = ("python", "-m", "tools.compare", *runs, "--name", settings.name, "--baseline", runs[0])
    comparison += ("--data", jobs[0].config.data)
    if settings.slurm:
        print(slurm_script(settings, jobs, comparison))
        return
    if settings.dry_run:
        for job in jobs:
            print(f"# {job.config.run_name}: {'finished, skipped' if job.is_done else 'to do'}")
            for command in () if job.is_done else job.commands:
                print(shlex.join(command))
        print(shlex.join(comparison))
        return
    failed = run_jobs([job for job in jobs if not job.is_done], settings.devices)
    if failed:
        raise UserError(f"{', '.join(failed)}: failed, see above; the same command again runs what is missing")
    compare(CompareSettings(tuple(runs), baseline=runs[0], name=settings.name, data=jobs[0].config.data))


def run_jobs(jobs: list[Job], devices: tuple[str, ...]) -> list[str]:
    """Run the jobs, one at a time on each device, and gives the names of those that failed."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    failed, running = [], set()
    environment = dict(os.environ)
    if devices.count("cpu") > 1:  # else every process would use all cores
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // devices.count("cpu"))))

    def work(device: str) -> None:
        while True:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            # one write a line: lines of several devices must not run into each other
            print(f"{job.config.run_name} on {device}, {waiting.qsize()} more to come\n", end="", flush=True)
            for command in job.commands:
                with subprocess.Popen([*command, "--device", device], env=environment) as process:
                    running.add(process)
                    code = process.wait()
                    running.remove(process)
                if code:
                    failed.append(job.config.run_name)
                    break

    threads = [threading.Thread(target=work, args=(device,), daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C or SIGTERM: what runs writes its checkpoint, and nothing is started after it
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for process in list(running):
            process.terminate()
        for thread in threads:
            thread.join()
        raise
    return failed


def slurm_script(settings: SweepSettings, jobs: list[Job], comparison: tuple[str, ...]) -> str:
    """Return a job array for sbatch with a task for each run; finished ones end at once."""
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={settings.name}",
        f"#SBATCH --array=0-{len(jobs) - 1}",
        "#SBATCH --gres=gpu:1",
        "set -e",
        "case $SLURM_ARRAY_TASK_ID in",
    ]
    lines += [f"{n}) {' && '.join(shlex.join(c) for c in job.commands)} ;;" for n, job in enumerate(jobs)]
    return "\n".join([*lines, "esac", "# once all tasks are done:", f"# {shlex.join(comparison)}"])


def _command(program: str, arguments: list[str]) -> tuple[str, ...]:
    return sys.executable, str(REPOSITORY / program), *arguments


def stop(number: int, _: FrameType | None) -> None:
    """SIGTERM's handler: ends the program as a shell reports it, by way of what `run_jobs` does at its end."""
    sys.exit(128 + number)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    sweep(parse_arguments(SweepSettings, __doc__, own), options)


if __name__ == "__main__":
    run_command(main)
