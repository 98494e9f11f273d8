"""Train and test a list of losses with one config, and compare them.

    python -m tools.sweep --seeds 0 1 2 -- --data data/mycorpus --batch_size 15
    python -m tools.sweep --seeds 0 1 2 --tune learning_rate -- --data data/mycorpus  # each loss with its own rate

Settings after `--` are for train.py. Finished runs are skipped: rerun the same command to resume. `--dry_run`
prints the commands; `--slurm` prints a job array for sbatch.
"""

import itertools
import os
import queue
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from config import DEMO_DATA, Config, Device, FolderName
from losses import PAPER_LOSSES, build_loss
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import find_device
from tools.common.errors import UserError
from tools.common.files import write_csv
from tools.common.processes import cores
from tools.common.run_folder import is_tested, read_config, read_history, test_folder
from tools.common.settings import parse_config
from tools.reports.compare_runs import CompareSettings, compare
from tools.reports.tuning import at_the_edge, judge_rates
from tools.training.distributed import Processes
from tools.training.precision import settle_precision
from tools.training.run import is_trained

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class SweepSettings:
    """What to train, where, and under which name."""

    losses: tuple[str, ...] = PAPER_LOSSES
    """Losses to compare; the first is the baseline."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to train each loss with."""
    name: FolderName = "sweep"
    """Runs are called <name>_<loss>_seed<seed>, and the comparison results/<name>/."""
    devices: tuple[Device, ...] = ("auto",)
    """Devices, with one process on each: auto, cpu, cuda:0 cuda:1 …; cpu cpu shares the cores between two."""
    tune: Literal["", "learning_rate"] = ""
    """learning_rate: first tune it for each loss by short trainings with the first seed (Kolbæk et al. 2020)."""
    tune_rates: tuple[float, ...] = ()
    """Learning rates to try; by default a third, one and three times that of the training."""
    tune_epochs: int = 0
    """Epochs of the short trainings; 0 for a third of the training."""
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
        """Return whether it is trained to its last epoch and, if it includes a test, tested since."""
        run_dir = self.config.run_dir
        places = test_folder(run_dir, self.config.data), run_dir / "test"  # the latter in earlier versions
        return is_trained(self.config) and (
            len(self.commands) == 1 or any(is_tested(run_dir, place / "scores.csv") for place in places)
        )


def check(settings: SweepSettings, options: list[str]) -> None:
    """Raise UserError for settings that cannot be used."""
    if not settings.losses or not settings.seeds or not settings.devices:
        raise UserError("losses, seeds and devices: expected at least one of each")
    if len(set(settings.seeds)) < len(settings.seeds):
        raise UserError(f"seeds: found {', '.join(map(str, settings.seeds))}, expected each once")
    if len(settings.losses) < 2:
        raise UserError(f"losses: found {settings.losses[0]} alone, expected two or more to compare")
    own = [option for option in options if option.split("=")[0] in ("--name", "--loss", "--seed", "--device")]
    if own:
        raise UserError(f"{own[0]}: found it after --, but the sweep sets it; give it before --")
    if not settings.tune and (settings.tune_rates or settings.tune_epochs):
        raise UserError("tune_rates, tune_epochs: found without --tune learning_rate; add it, or leave them out")
    for device in settings.devices:
        find_device(device)


def plan(settings: SweepSettings, options: list[str], rates: Mapping[str, float] | None = None) -> list[Job]:
    """Return the sweep's runs, ordered by seed, then loss; errors in any config are raised here, before training.

    rates: the learning rate of each loss, if they were tuned.
    """
    runs = [(seed, loss) for seed in settings.seeds for loss in settings.losses]
    names = [
        Config(name=f"{settings.name}_{{loss}}_seed{{seed}}", loss=loss, seed=seed).run_name for seed, loss in runs
    ]
    if len(set(names)) < len(names):
        raise UserError(f"losses: found {', '.join(settings.losses)}, expected each once")
    if not settings.slurm:
        options = [*options, *one_precision(parse_config("", options), names, settings.devices[0])]
    jobs = []
    for (seed, loss), name in zip(runs, names, strict=True):
        arguments = [*options, "--name", name, "--loss", loss, "--seed", str(seed)]
        if rates:
            arguments += ["--learning_rate", f"{rates[loss]:g}"]
        config = parse_config("", arguments)
        build_loss(config.loss, config.coupling, config.balance)
        if config.data != DEMO_DATA and not Path(config.data).is_dir():
            raise UserError(f"data: found {config.data}, which is no folder, expected a packed data set")
        test = ["--name", name, "--data", config.data]
        jobs.append(Job(config, (_command("train.py", arguments), _command("test.py", test))))
    return jobs


def plan_tuning(settings: SweepSettings, options: list[str]) -> list[Job]:
    """Return the short trainings, of each loss with each learning rate."""
    config = parse_config("", options)
    rates = settings.tune_rates or tuple(config.learning_rate * factor for factor in (1 / 3, 1, 3))
    if len({f"{rate:.3g}" for rate in rates}) < max(2, len(rates)) or min(rates) <= 0 or settings.tune_epochs < 0:
        raise UserError(
            f"tune_rates and tune_epochs: found {', '.join(f'{rate:g}' for rate in rates)} and "
            f"{settings.tune_epochs}, expected two or more rates above 0, different in "
            "three digits, and 0 or more epochs"
        )
    epochs = settings.tune_epochs or max(1, config.epochs // 3)
    options = [*options, "--seed", str(settings.seeds[0]), "--epochs", str(epochs)]
    jobs = []
    for loss in settings.losses:
        for rate in rates:
            name = Config(name=f"{settings.name}_tune_{{loss}}_rate{rate:.3g}", loss=loss).run_name
            arguments = [*options, "--name", name, "--loss", loss, "--learning_rate", f"{rate:.3g}"]
            jobs.append(Job(parse_config("", arguments), (_command("train.py", arguments),)))
    return jobs


def tune(settings: SweepSettings, options: list[str]) -> tuple[dict[str, float], Path]:
    """Run unfinished short trainings; return the learning rate of each loss, and the path of their table."""
    jobs = plan_tuning(settings, options)
    run_all(jobs, settings.devices)
    rows = []
    for loss in settings.losses:
        own = [job.config for job in jobs if job.config.loss == loss]
        rows += judge_rates(loss, {config.learning_rate: read_history(config.run_dir) for config in own})
    table = Path("results") / settings.name / "tuning.csv"
    write_csv(table, rows)
    rates = {row["loss"]: row["learning_rate"] for row in rows if row["chosen"]}
    print("Learning rates: " + ", ".join(f"{loss} {rate:g}" for loss, rate in rates.items()))
    for sentence in at_the_edge(rows):
        print(sentence)
    return rates, table


def one_precision(config: Config, names: Sequence[str], device: str) -> list[str]:
    """Return options that give all runs one precision: that of a started run, or what `auto` becomes here."""
    if config.precision != "auto":
        return []
    started = [Path("runs") / name for name in names if (Path("runs") / name / "config.json").is_file()]
    if started:
        config = read_config(started[0])
    settled, _ = settle_precision(config, Processes(find_device(device)))
    return ["--precision", settled.precision]


def sweep(settings: SweepSettings, options: list[str]) -> None:
    """Run unfinished runs, then the comparison; UserError after all other runs if one fails."""
    check(settings, options)
    if settings.tune and settings.slurm:
        raise UserError("slurm: found with --tune, whose rates are not known before; sweep without one of the two")
    jobs = plan(settings, options)
    runs = [job.config.run_name for job in jobs]
    data = jobs[0].config.data
    comparison = ("python", "-m", "tools.compare", *runs, "--name", settings.name, "--baseline", runs[0])
    comparison += ("--data", data)
    if settings.slurm:
        print(slurm_script(settings, jobs, comparison))
        return
    if settings.dry_run:
        tuning = plan_tuning(settings, options) if settings.tune else []
        for job in [*tuning, *jobs]:
            print(f"# {job.config.run_name}: {'finished, skipped' if job.is_done else 'to do'}")
            for command in () if job.is_done else job.commands:
                print(shlex.join(command))
        print(shlex.join(comparison))
        return
    table = None
    if settings.tune:
        rates, table = tune(settings, options)
        jobs = plan(settings, options, rates)
    run_all(jobs, settings.devices)
    compare(CompareSettings(tuple(runs), baseline=runs[0], name=settings.name, data=data, tuning=table))


def run_all(jobs: Sequence[Job], devices: tuple[str, ...]) -> None:
    """Run the jobs that are not done; UserError after all others if one fails."""
    failed = run_jobs([job for job in jobs if not job.is_done], devices)
    if failed:
        raise UserError(f"{', '.join(failed)}: failed, see above; the same command again runs what is missing")


def run_jobs(jobs: list[Job], devices: tuple[str, ...]) -> list[str]:
    """Run the jobs, one at a time on each device; return the names of those that failed."""
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for device in devices:
        free.put(device)
    running = set()
    environment = dict(os.environ)
    if devices.count("cpu") > 1:  # else every process would use all cores
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // devices.count("cpu"))))

    def work(number: int, job: Job) -> bool:
        """Run the commands of a job on a free device; return whether all succeeded."""
        device = free.get()
        # one write a line, so that lines of several devices are not mixed
        print(f"{job.config.run_name} on {device}, {len(jobs) - number} more to come\n", end="", flush=True)
        try:
            for command in job.commands:
                with subprocess.Popen([*command, "--device", device], env=environment) as process:
                    running.add(process)
                    code = process.wait()
                    running.discard(process)
                if code:
                    return False
            return True
        finally:
            free.put(device)

    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            succeeded = list(pool.map(work, itertools.count(1), jobs))
        except BaseException:  # Ctrl-C or SIGTERM: running jobs write their checkpoints, and no other is started
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    return [job.config.run_name for job, fine in zip(jobs, succeeded, strict=True) if not fine]


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
    """Handle SIGTERM: end with a shell's exit code, through the clean-up of `run_jobs`."""
    sys.exit(128 + number)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    sweep(parse_arguments(SweepSettings, __doc__, own), options)


if __name__ == "__main__":
    run_command(main)
