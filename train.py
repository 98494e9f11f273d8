"""Train a network with a loss: settings from config.py or the command line, results in runs/<name>/.

    python train.py --loss SI-SNR+LMS --batch_size 8

The same command run again goes on after the last finished epoch.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from tensorboardX import SummaryWriter
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from config import DEMO_DATA, Config
from dataloader import build_loader, shuffle_for_epoch
from losses import build_loss
from models import build_model
from tools.cli import UserError, parse_config, run_command
from tools.device import find_device
from tools.make_demo_corpus import make_demo_corpus
from tools.run_folder import open_run, save_checkpoint, save_history
from tools.scores import ScorePool

VALID_SCORES = ("pesq", "stoi")
LISTEN = 3  # validation utterances to listen to in TensorBoard


def train(config: Config) -> None:
    """Trains until config.epochs are done; writes runs/<name>/ after each."""
    device = find_device(config.device)
    if config.data == DEMO_DATA and not Path(config.data).exists():
        make_demo_corpus(Path(config.data))
    train_loader = build_loader(config, "train", device)
    valid_loader = build_loader(config, "valid", device)
    loss_fn = build_loss(config.loss, config.coupling, config.balance).to(device)
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)

    # Go on where an earlier call of the same command ended.
    state = open_run(config)
    history = state["history"] if state else []
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        loss_fn.load_state_dict(state.get("loss", {}))  # checkpoints from before terms could learn have none
    first = len(history) + 1
    if first > config.epochs:
        print(f"{config.run_dir}: all {config.epochs} epochs are done, nothing to do")
        return
    weights = sum(p.numel() for p in model.parameters())
    print(f"{config.run_dir}: {config.model} with {weights:,} weights, loss {config.loss}, on {device}")

    board = SummaryWriter(str(config.run_dir / "tensorboard"), purge_step=first)
    with ScorePool() as pool:
        for epoch in range(first, config.epochs + 1):
            start = time.monotonic()
            shuffle_for_epoch(train_loader, config.seed, epoch)
            steps = []
            trained, _ = run_epoch(
                model, train_loader, loss_fn, device, f"epoch {epoch}", optimizer, weights=steps
            )
            keep = max(config.valid_scores, LISTEN)
            valid, kept = run_epoch(model, valid_loader, loss_fn, device, "validation", keep=keep)
            scores = mean_scores(pool, kept[: config.valid_scores])
            row = {"epoch": epoch, "seconds": round(time.monotonic() - start, 1)}
            row |= {f"train_{name}": value for name, value in trained.items()}
            row |= {f"valid_{name}": value for name, value in (valid | scores).items()}
            best = is_best(loss_fn, row, history)
            history.append(row)

            checkpoint = {"config": config.to_dict(), "epoch": epoch, "model": model.state_dict()}
            if best:
                save_checkpoint(config.run_dir / "best.pt", checkpoint)
            checkpoint |= {"optimizer": optimizer.state_dict(), "loss": loss_fn.state_dict(), "history": history}
            save_checkpoint(config.run_dir / "last.pt", checkpoint)
            save_history(config.run_dir, history)
            log_to_board(board, row, kept[:LISTEN], config.sample_rate)
            log_weights(board, steps, epoch)
            print(describe(row, config.epochs) + (", best so far" if best else ""))
    board.close()


def run_epoch(
    model: nn.Module,
    loader: DataLoader,
    loss_fn: nn.Module,
    device: torch.device,
    title: str,
    optimizer: torch.optim.Optimizer | None = None,
    keep: int = 0,
    weights: list[dict] | None = None,
) -> tuple[dict[str, float], list[dict]]:
    """One pass over the loader, training if there is an optimiser; `weights` gains those of each step's loss.

    Returns the means over all utterances of the loss and its named parts, and the waveforms (noisy, clean,
    estimate) of the first `keep` utterances.
    """
    model.train(optimizer is not None)
    loss_fn.train(optimizer is not None)
    totals, count, kept = 0, 0, []
    shown = time.monotonic()
    bar = tqdm(loader, title, leave=False, disable=None)
    with torch.set_grad_enabled(optimizer is not None):
        for noisy, clean, _ in bar:
            noisy = noisy.to(device, non_blocking=True)  # [B, samples]
            clean = clean.to(device, non_blocking=True)
            estimate = model(noisy)
            loss, parts = loss_fn(estimate, clean, noisy)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if weights is not None:
                weights.append(loss_fn.weights)
            # Sums stay on the device: reading one would make the CPU wait for the GPU.
            totals = totals + torch.stack([loss.detach(), *parts.values()]) * len(noisy)
            count += len(noisy)
            for n in range(min(keep - len(kept), len(noisy))):
                waveforms = {"noisy": noisy[n], "clean": clean[n], "estimate": estimate[n].detach()}
                kept.append({name: waveform.cpu().numpy() for name, waveform in waveforms.items()})
            if time.monotonic() - shown > 1:
                shown = time.monotonic()
                bar.set_postfix(loss=f"{loss.item():.4g}")
    means = dict(zip(("loss", *parts), (totals / count).tolist(), strict=True))
    if not all(math.isfinite(value) for value in means.values()):
        raise UserError(
            f"{title}: the loss is {means}; try a lower --learning_rate (earlier epochs' checkpoints are intact)"
        )
    return means, kept


def mean_scores(pool: ScorePool, kept: list[dict]) -> dict[str, float]:
    """Mean PESQ and STOI of the estimates, over those that have a score."""
    pairs = [(waveforms["clean"], waveforms["estimate"]) for waveforms in kept]
    results = list(tqdm(pool.map(pairs, VALID_SCORES), "scores", len(pairs), leave=False, disable=None))
    means = {}
    for name in VALID_SCORES if results else ():
        values = [r.values[name] for r in results if name not in r.failed]
        means[name] = sum(values) / len(values) if values else math.nan
    return means


def log_to_board(board: SummaryWriter, row: dict, kept: list[dict], sample_rate: int) -> None:
    """TensorBoard: every number of the epoch, and the first validation utterances to listen to."""
    for name, value in row.items():
        if name != "epoch":
            board.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
    for number, waveforms in enumerate(kept):
        for name, waveform in waveforms.items():
            if name == "estimate" or row["epoch"] == 1:
                board.add_audio(f"{number}/{name}", waveform, row["epoch"], sample_rate=sample_rate)
    board.flush()


def is_best(loss_fn: nn.Module, row: dict, history: list[dict]) -> bool:
    """Whether the epoch has the lowest validation loss, all epochs judged with the weights that the loss has now.

    Weights that the training finds move from epoch to epoch, and so the losses of the epochs do not compare.
    """
    now, *past = (loss_fn.total({name: r[f"valid_{name}"] for name in loss_fn.terms}) for r in (row, *history))
    return now < min(past, default=math.inf)


def log_weights(board: SummaryWriter, steps: list[dict], epoch: int) -> None:
    """TensorBoard: the weight of each of the loss's terms in each step of the epoch."""
    table = torch.stack([torch.as_tensor(weight) for weights in steps for weight in weights.values()])
    rows = table.reshape(len(steps), -1).tolist()  # read once an epoch: reading makes the CPU wait for the GPU
    for number, weights in enumerate(rows, start=(epoch - 1) * len(steps) + 1):
        for name, weight in zip(steps[0], weights, strict=True):
            board.add_scalar(f"weight/{name}", weight, number)


def describe(row: dict, epochs: int) -> str:
    """The epoch's line on the console."""
    numbers = [f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "seconds")]
    return f"epoch {row['epoch']}/{epochs}: {', '.join(numbers)}, {row['seconds']:.0f} s"


def main() -> None:
    train(parse_config(__doc__))


if __name__ == "__main__":
    run_command(main)
