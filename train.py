"""Train a network with a loss: settings from config.py or the command line, results in runs/<name>/.

    python train.py --loss SI-SNR+LMS --batch_size 8
    torchrun --nproc_per_node 4 train.py --loss SI-SNR+LMS  # on four GPUs

Rerun the same command to resume.
"""

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.common.threads import wait_briefly

if __name__ == "__main__":
    wait_briefly()  # before torch loads

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from config import DEMO_DATA, Config
from dataloader import build_loader, shuffle_for_epoch
from losses import build_loss
from models import build_model, checkpoint_path, load_model
from tools.common.command_line import run_command
from tools.common.console_log import log_console
from tools.common.device import keep_freed_memory, use_threads
from tools.common.files import exclusive
from tools.common.run_folder import improvements, is_over, save_checkpoint, save_config, save_history
from tools.demo_corpus.corpus import ensure_demo_corpus
from tools.scoring.scores import ScorePool, choose_scores
from tools.training.account import columns, describe_end, describe_epoch, describe_start
from tools.training.checkpoints import checkpoint, restore
from tools.training.data_guard import DataGuard
from tools.training.distributed import OtherProcessEnded, Processes, join_processes
from tools.training.environment import log_environment
from tools.training.failures import NormStatistics, naming_dead_loaders
from tools.training.interruption import Interruption
from tools.training.monitor import Monitor
from tools.training.precision import arrange_channels, autocast, set_kernels, settle_precision
from tools.training.progress import Learner, Progress, StepResult, Totals, WeightAverage, weighted
from tools.training.resume import open_run
from tools.training.settings import Resume, parse_training
from tools.training.validation import Validated, choose_items, enhance_items, validate


def train(config: Config, resume: Resume, processes: Processes) -> None:
    """Train until config.epochs are done or a signal arrives, writing to runs/<name>/."""
    choose_scores(config.valid_metrics)  # raises its error before anything is written
    config, saved, changed = open_run(config, resume)
    threads = use_threads(config.threads, processes.on_machine)
    config, reason = settle_precision(config, processes)
    set_kernels(config)
    if config.data == DEMO_DATA:
        processes.main_first(ensure_demo_corpus)
    train_loader, valid_loader = (
        build_loader(config, split, processes.device, rank=processes.rank, world_size=processes.world_size)
        for split in ("train", "valid")
    )
    guard = DataGuard(config.data)
    if saved and guard.check(saved, resume):
        changed = changed | {"data"}
    learner = build_learner(config, processes.device, fresh=not saved)
    progress = Progress(Totals(("loss", *learner.loss_fn.weights), processes.device))
    if saved:
        restore(saved, changed, learner, progress, processes, len(train_loader))
    if is_over(config, progress.history):
        if processes.is_main:
            print(f"{config.run_dir}: all {len(progress.history)} epochs are done, nothing to do")
            print(describe_end(config, progress.history))
        return
    if processes.is_main:
        save_config(config)
        log_environment(config.run_dir, processes, progress.step)
    if config.compile:
        learner.model.estimate = torch.compile(learner.model.estimate)

    with log_console(config.run_dir / "log.txt", processes.is_main):
        if processes.is_main:
            computation = f"{processes}, {threads} thread{'s' * (threads > 1)}, {config.precision} ({reason})"
            print(describe_start(config, learner.model, progress, computation), flush=True)
        run_epochs(config, learner, progress, train_loader, valid_loader, guard, processes)
        if processes.is_main:
            print(describe_end(config, progress.history))


def run_epochs(
    config: Config,
    learner: Learner,
    progress: Progress,
    train_loader: DataLoader,
    valid_loader: DataLoader,
    guard: DataGuard,
    processes: Processes,
) -> None:
    """Train and validate epoch by epoch, starting at `progress`; an interruption saves last.pt and exits."""
    network = processes.wrap(learner.model)
    with (
        ScorePool(processes.cores) as pool,
        Monitor(config, learner, progress, train_loader, processes) as monitor,
        Interruption(hurried=processes.world_size > 1) as interruption,
    ):

        def save() -> None:
            monitor.settle()
            monitor.note_save()
            content = checkpoint(config, learner, progress, processes) | {"data": guard.digest}
            if processes.is_main:
                save_checkpoint(config.run_dir / "last.pt", content)

        while not is_over(config, progress.history):
            monitor.start_epoch(len(train_loader) + len(valid_loader))
            for result, rate in train_epoch(config, learner, network, train_loader, progress, processes):
                monitor.follow(result, rate)
                stop, due = processes.any(interruption.is_asked_for, processes.is_main and monitor.is_save_due())
                if stop or due:
                    save()
                if stop:
                    leave(config, progress, processes, interruption)
            monitor.settle()
            guard.refuse_change()
            begun = time.monotonic()
            validated = validate(config, learner, valid_loader, pool, processes, monitor.tick, interruption)
            if validated is None:  # interrupted; the next call validates again
                save()
                leave(config, progress, processes, interruption)
            row = epoch_row(progress, learner, validated, time.monotonic() - begun)
            if processes.is_main:
                keep_epoch(config, learner, progress, row, validated, valid_loader, monitor)
            progress.start_next_epoch(row)
            save()
            monitor.hide_bar()
            if processes.is_main:
                save_history(config.run_dir, progress.history)
                print(describe_epoch(config, progress.history, columns()), flush=True)


def build_learner(config: Config, device: torch.device, fresh: bool) -> Learner:
    """Return initial network, loss and optimiser. fresh: whether to load the checkpoint config.init, if set."""
    loss_fn = build_loss(config.loss, config.coupling, config.balance).to(device)
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    if config.init and fresh:
        model.load_state_dict(load_model(checkpoint_path(config.init)).state_dict())
    arrange_channels(model, config, device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    return Learner(model, WeightAverage(model, config.ema), loss_fn, optimizer)


def epoch_row(progress: Progress, learner: Learner, validated: Validated, seconds: float) -> dict[str, Any]:
    """Return the epoch's row of history.csv. seconds: of validation, added to those of training."""
    row = {"epoch": progress.epoch, "seconds": round(progress.seconds + seconds, 1)}
    row |= {f"train_{name}": value for name, value in progress.totals.means().items()}
    row |= {f"valid_{name}": value for name, value in (validated.means | validated.scores).items()}
    row |= {f"weight_{name}": float(weight) for name, weight in learner.loss_fn.weights.items()}
    return row | {"skipped": progress.skipped, "items_per_second": progress.items_per_second}


def keep_epoch(
    config: Config,
    learner: Learner,
    progress: Progress,
    row: dict[str, Any],
    validated: Validated,
    loader: DataLoader,
    monitor: Monitor,
) -> None:
    """Log the epoch with audio and spectrograms of some items; write best.pt if it is the best so far."""
    averaged = learner.average.model
    chosen = choose_items(validated.gains)
    items = enhance_items(averaged, loader, list(chosen.values()))
    monitor.log_epoch(row, dict(zip(chosen, items, strict=True)))
    if row["epoch"] in improvements([*progress.history, row], config.best_by):
        content = {"config": config.to_dict(), "epoch": row["epoch"], "model": averaged.state_dict()}
        save_checkpoint(config.run_dir / "best.pt", content)


def train_epoch(
    config: Config,
    learner: Learner,
    network: nn.Module,
    loader: DataLoader,
    progress: Progress,
    processes: Processes,
) -> Iterator[tuple[StepResult, float]]:
    """Train the remaining steps of an epoch; yield each step's result and its learning rate."""
    network.train()
    learner.loss_fn.train()
    shuffle_for_epoch(loader, config.seed, progress.epoch, progress.batch)
    failures = failures_to_improve(progress.history)
    for noisy, clean, _ in loader:
        rate = learning_rate(config, progress.step, len(loader), failures)
        for group in learner.optimizer.param_groups:
            group["lr"] = rate
        items = len(loader.batch_sampler.global_batch(progress.batch))  # of all processes
        batch = (x.to(processes.device, non_blocking=True) for x in (noisy, clean))  # [share of items, samples]
        result = train_step(config, learner, network, *batch, items, processes)
        progress.count_step(result)
        learner.average.update(progress.step)
        yield result, rate


def train_step(
    config: Config,
    learner: Learner,
    network: nn.Module,
    noisy: Tensor,
    clean: Tensor,
    items: int,
    processes: Processes,
) -> StepResult:
    """Update the weights once, unless loss or gradient is not finite, without waiting for the device.

    noisy, clean: [share, samples], this process's share of a batch of `items` items over all processes.
    """
    model, optimizer = learner.model, learner.optimizer
    before = NormStatistics(model) if config.skip_nonfinite else None
    optimizer.zero_grad()
    pieces = min(config.accumulate, items // processes.world_size)
    sums = 0
    for number, (x, y) in enumerate(zip(noisy.tensor_split(pieces), clean.tensor_split(pieces), strict=True), 1):
        # Processes exchange gradients once, with the last piece.
        alone = processes.world_size > 1 and number < pieces
        with network.no_sync() if alone else contextlib.nullcontext():
            with autocast(config, processes.device):
                estimate = network(x)  # [piece, samples]
            loss, parts = learner.loss_fn(estimate, y, x)
            # Gradients are averaged over processes, which may have different numbers of items.
            (loss * (len(x) * processes.world_size / items)).backward()
        sums = sums + weighted(loss, parts, len(x))
    processes.sum(sums)
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad or math.inf)
    left_out = ~torch.isfinite(norm + sums.sum())
    optimizer.found_inf = left_out.float()  # fused Adam then leaves weights and moments unchanged
    optimizer.step()
    if before:
        before.put_back(left_out)
    return StepResult(sums, norm, left_out)


def learning_rate(config: Config, step: int, steps_an_epoch: int, failures: int) -> float:
    """Return the learning rate of a step, counted from 0, without state to restore on resume.

    failures: see `failures_to_improve`.
    Sources: plateau: Hu et al., arXiv 2008.00264; cosine with warm-up: Loshchilov & Hutter 2017, without restarts.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "plateau":
        return rate * 0.5**failures
    if config.schedule == "cosine":
        last = config.epochs * steps_an_epoch
        way = max(0, step - config.warmup_steps) / max(1, last - config.warmup_steps)
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, way)))
    return rate


def failures_to_improve(history: Sequence[Mapping[str, Any]]) -> int:
    """Return how many epochs did not lower the validation loss."""
    return len(history) - len(improvements(history, "loss"))


def leave(config: Config, progress: Progress, processes: Processes, interruption: Interruption) -> None:
    """Exit after an interruption, with a message on how to resume."""
    if processes.is_main:
        print(
            f"{config.run_dir}: interrupted after step {progress.step} (epoch {progress.epoch}, {progress.batch} "
            "batches); saved last.pt; rerun the same command to resume",
            flush=True,
        )
    sys.exit(interruption.exit_code())


def main() -> None:
    config, resume = parse_training(__doc__)
    keep_freed_memory()
    try:
        with (
            join_processes(config.device) as processes,
            naming_dead_loaders(),
            exclusive(config.run_dir) if processes.is_main else contextlib.nullcontext(),
        ):
            train(config, resume, processes)
    except OtherProcessEnded:
        sys.exit("ended because another process of the training did; its message says why")


if __name__ == "__main__":
    run_command(main)
