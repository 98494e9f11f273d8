"""Train a network with a loss: settings from config.py or the command line, results in runs/<name>/.

    python train.py --loss SI-SNR+LMS --batch_size 8
    torchrun --nproc_per_node 4 train.py --loss SI-SNR+LMS  # on four GPUs

Rerun the same command to resume.
"""

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from config import DEMO_DATA, Config
from dataloader import build_loader, shuffle_for_epoch
from losses import build_loss
from models import build_model, load_model
from tools.common.command_line import run_command
from tools.common.device import keep_freed_memory, use_threads
from tools.common.files import exclusive
from tools.common.run_folder import (
    best_epochs,
    checkpoint_path,
    is_over,
    log_console,
    save_checkpoint,
    save_config,
    save_history,
)
from tools.common.settings import Resume, parse_training
from tools.scoring.scores import ScorePool, installed_metrics
from tools.training.console import describe_end, describe_epoch, describe_start
from tools.training.distributed import Interruption, Processes, join_processes
from tools.training.monitor import Monitor
from tools.training.precision import arrange_channels, set_kernels, settle_precision
from tools.training.run import digest_data, log_environment, open_run
from tools.training.state import TrainingState, batch_sums, means
from tools.training.validation import enhance_some, validate

READ_STEPS, READ_SECONDS = 20, 5.0  # after these, numbers are read from the device: each time the CPU waits for it


def train(config: Config, resume: Resume = "same") -> list[dict[str, Any]]:
    """Train until config.epochs are done, writing to runs/<name>/; return the rows of history.csv.

    resume: what to do if the folder holds a run with other settings (see `open_run`). On SIGTERM, Ctrl-C or SIGHUP
    it finishes the step, writes last.pt and exits. Raises UserError.
    """
    installed_metrics(config.valid_metrics)  # raises its error before anything is written
    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(join_processes(config.device))
        if processes.is_main:
            stack.enter_context(exclusive(config.run_dir))
        config, saved, changed = open_run(config, resume)
        threads = use_threads(config.threads, processes.on_machine)
        config, reason = settle_precision(config, processes)
        set_kernels(config)
        if config.data == DEMO_DATA:
            from tools.demo_corpus.corpus import ensure_demo_corpus  # loads what generates it

            processes.main_first(ensure_demo_corpus)
        loaders = [
            build_loader(config, split, processes.device, rank=processes.rank, world_size=processes.world_size)
            for split in ("train", "valid")
        ]
        state = build_state(config, processes, fresh=not saved)
        if saved:
            state.load_state_dict(saved, changed)
        if is_over(config, state.history):
            if processes.is_main:
                save_history(config.run_dir, state.history)  # it may have been killed between the two files
                print(f"{config.run_dir}: all {len(state.history)} epochs are done, nothing to do")
                print(describe_end(config, state.history))
            return state.history
        if config.compile:
            state.model.apply_layers = torch.compile(state.model.apply_layers)
        if processes.is_main:
            save_config(config)
            log_environment(config.run_dir, processes, state.step)
            stack.enter_context(log_console(config.run_dir / "log.txt"))
            computation = f"{processes}, {threads} thread{'s' * (threads > 1)}, {config.precision} ({reason})"
            print(describe_start(config, state, computation), flush=True)
        run_epochs(config, state, *loaders)
        if processes.is_main:
            print(describe_end(config, state.history))
        return state.history


def build_state(config: Config, processes: Processes, fresh: bool) -> TrainingState:
    """Return the state at the start. fresh: whether to load the checkpoint config.init, if set."""
    torch.manual_seed(config.seed)
    loss = build_loss(config.loss, config.coupling, config.balance).to(processes.device)
    torch.manual_seed(config.seed)  # the network does not depend on the loss
    model = build_model(config).to(processes.device)
    if config.init and fresh:
        model.load_state_dict(load_model(checkpoint_path(config.init)).state_dict())
    arrange_channels(model, config, processes.device)
    return TrainingState(model, loss, processes, config.ema)


def run_epochs(config: Config, state: TrainingState, train_loader: DataLoader, valid_loader: DataLoader) -> None:
    """Train and validate epoch by epoch from `state` on; an interruption saves last.pt and exits."""
    processes, digest = state.processes, digest_data(config.data)
    with (
        ScorePool(processes.cores) as pool,
        contextlib.closing(Monitor(config, state, train_loader)) as monitor,
        Interruption(processes) as interruption,
    ):
        for term in state.loss.terms.values():
            term.pool = pool
        saved_at = time.monotonic()
        while not is_over(config, state.history):
            monitor.start_epoch(len(train_loader) + len(valid_loader))
            for _ in train_epoch(config, state, train_loader):
                now = time.monotonic()
                due = processes.is_main and 0 < 60 * config.checkpoint_minutes < now - saved_at
                stop, due = processes.any(interruption.signal > 0, due)
                if stop or due or len(state.unread) >= READ_STEPS or now > monitor.read_at + READ_SECONDS:
                    monitor.flush()
                if stop:
                    leave(config, state, digest, interruption)
                if due:
                    save_last(config, state, digest)
                    saved_at = now
            monitor.flush()
            begun = time.monotonic()
            batches = evaluate(config, state, monitor.watch(valid_loader))
            values, gains = validate(config, state, batches, pool, interruption)
            if any(processes.any(interruption.signal > 0)):
                leave(config, state, digest, interruption)  # the next call validates again
            row = epoch_row(state, values, time.monotonic() - begun)
            if processes.is_main:
                items = enhance_some(state.average.model, valid_loader.dataset.dataset, gains)
                monitor.log_epoch(row, items)
                save_best(config, state, row)
            state.finish_epoch(row)
            save_last(config, state, digest)
            saved_at = time.monotonic()
            if processes.is_main:
                save_history(config.run_dir, state.history)
                print(describe_epoch(config, state.history), flush=True)


def save_last(config: Config, state: TrainingState, digest: str) -> None:
    """Write last.pt, from which a training resumes exactly; all processes must call this."""
    content = {"config": config.to_dict(), "data_digest": digest} | state.state_dict()
    if state.processes.is_main:
        save_checkpoint(config.run_dir / "last.pt", content)


def save_best(config: Config, state: TrainingState, row: dict[str, Any]) -> None:
    """Write best.pt if the epoch of this row is the best so far."""
    if row["epoch"] in best_epochs([*state.history, row], config.best_by):
        content = {"config": config.to_dict(), "epoch": row["epoch"], "model": state.average.model.state_dict()}
        save_checkpoint(config.run_dir / "best.pt", content)


def leave(config: Config, state: TrainingState, digest: str, interruption: Interruption) -> None:
    """Write last.pt and exit after an interruption, with a message on how to resume."""
    save_last(config, state, digest)
    if state.processes.is_main:
        print(
            f"{config.run_dir}: interrupted after step {state.step} (epoch {state.epoch}, {state.batch} batches); "
            "saved last.pt; rerun the same command to resume",
            flush=True,
        )
    sys.exit(interruption.exit_code())


def epoch_row(state: TrainingState, validated: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """Return the epoch's row of history.csv. seconds: of validation, added to those of training."""
    row = {"epoch": state.epoch, "seconds": round(state.seconds + seconds, 1)}
    row |= {f"train_{name}": value for name, value in means(state.names, state.sums).items()}
    row |= {f"valid_{name}": value for name, value in validated.items()}
    row |= {f"weight_{name}": float(weight) for name, weight in state.loss.weights.items()}
    return row | {"skipped": state.skipped, "items_per_second": state.items_per_second}


def train_epoch(config: Config, state: TrainingState, loader: DataLoader) -> Iterator[None]:
    """Train the remaining steps of an epoch; yield after each."""
    state.start_training()
    shuffle_for_epoch(loader, config.seed, state.epoch, state.batch)
    failures = failures_to_improve(state.history)
    for noisy, clean, _ in loader:
        rate = learning_rate(config, state.step, len(loader), failures)
        state.set_rate(rate)
        items = len(loader.batch_sampler.global_batch(state.batch))
        batch = (x.to(state.processes.device, non_blocking=True) for x in (noisy, clean))  # this process's share
        state.count_step(rate, *train_step(config, state, *batch, items))
        yield


def train_step(
    config: Config, state: TrainingState, noisy: Tensor, clean: Tensor, items: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Update all weights once, unless loss or a gradient is not finite, without waiting for the device.

    noisy, clean: [B, samples], this process's share of a batch of `items` items over all processes.
    Returns the `batch_sums` of the whole batch, the norm of the network's gradient, and whether it was skipped.
    """
    loss_fn, processes = state.loss, state.processes
    trained = [state.model, *loss_fn.trained_terms.values()]
    # Batch norms update their statistics in the forward pass: a skipped step takes that back.
    buffers = [buffer for module in trained for buffer in module.buffers()] if config.skip_nonfinite else []
    before = [buffer.clone() for buffer in buffers]
    for optimizer in state.optimizers.values():
        optimizer.zero_grad()
    count = min(config.accumulate, items // processes.world_size)
    micro_batches = zip(noisy.tensor_split(count), clean.tensor_split(count), strict=True)
    sums = 0
    for number, (noisy, clean) in enumerate(micro_batches, 1):
        # Gradients are averaged over processes, which may have different numbers of items.
        share = len(noisy) * processes.world_size / items
        # Processes exchange gradients once, with the last micro-batch.
        more_follow = processes.world_size > 1 and number < count
        with state.wrapped.no_sync() if more_follow else contextlib.nullcontext():
            with autocast(config, processes.device):
                estimate = state.wrapped(noisy)  # [micro-batch, samples]
            loss, parts = loss_fn(estimate, clean, noisy)
            (loss * share).backward()
        own = loss_fn.own_losses(estimate, clean, noisy)  # of terms such as discriminators, for their weights only
        if own:
            (sum(own.values()) * share).backward()
        sums = sums + batch_sums(loss, parts | own, len(noisy))
    if processes.world_size > 1:
        processes.sum(sums)
        for term in loss_fn.trained_terms.values():
            processes.average_gradients(term)
    norms = [nn.utils.clip_grad_norm_(module.parameters(), config.clip_grad or math.inf) for module in trained]
    skipped = ~torch.isfinite(sum(norms) + sums.sum())
    for optimizer in state.optimizers.values():
        optimizer.found_inf = skipped.float()  # fused Adam then leaves weights and moments unchanged
        optimizer.step()
    for buffer, old in zip(buffers, before, strict=True):
        buffer.copy_(torch.where(skipped, old, buffer))
    return sums, norms[0], skipped


@torch.no_grad()
def evaluate(
    config: Config, state: TrainingState, loader: Iterable[Sequence[Tensor]]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield numbers, noisy, clean, estimate and `batch_sums` of each batch, with the averaged weights."""
    model, loss_fn, device = state.average.model.eval(), state.loss.eval(), state.processes.device
    for noisy, clean, numbers in loader:
        noisy, clean = (x.to(device, non_blocking=True) for x in (noisy, clean))  # [B, samples]
        with autocast(config, device):
            estimate = model(noisy).float()  # a network may return what autocast made of it
        yield numbers, noisy, clean, estimate, batch_sums(*loss_fn(estimate, clean, noisy), len(noisy))


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """Return the context to run the network in. bfloat16 has the range of float32: gradients need no scaling."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def learning_rate(config: Config, step: int, steps_an_epoch: int, failures: int) -> float:
    """Return the learning rate of a step, counted from 0, from its arguments alone, as resuming needs.

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
    return len(history) - len(best_epochs(history, "loss"))


def main() -> None:
    train(*parse_training(__doc__))


if __name__ == "__main__":
    run_command(main)
