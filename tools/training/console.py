"""Console output of a training: its start, a row for each epoch, and its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from config import Config
from tools.common.run_folder import best_epochs
from tools.training.state import TrainingState

SCORES = {
    "pesq": ("PESQ", "{:.2f}"),
    "dnsmos_ovrl": ("DNSMOS", "{:.2f}"),
    "stoi": ("STOI", "{:.3f}"),
    "si_sdr": ("SI-SDR", "{:4.1f}"),
}


def describe_start(config: Config, state: TrainingState, computation: str) -> str:
    """Return a description of network, loss and computation, of the start or resumption, and of the rows."""
    weights = sum(weight.numel() for weight in state.model.parameters())
    what = f"{config.run_dir}: {config.model} with {weights:,} weights, loss {config.loss}, on {computation}"
    where = f"starting from {config.init}" if config.init else "starting"
    if state.step:
        where = f"resuming after step {state.step}: {len(state.history)} of {config.epochs} epochs are done"
        where += f", and {state.batch} batches of the next" if state.batch else ""
    return f"{what}\n{where}; a row is an epoch, * the best so far"


def describe_epoch(config: Config, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the last epoch's row: epoch, losses, scores, seconds, and the terms of the validation loss."""
    row, best = history[-1], best_epochs(history, config.best_by)[-1] == len(history)
    epoch = f"{row['epoch']:>{len(str(config.epochs))}}/{config.epochs}{'*' if best else ' '}"
    parts = [f"{epoch} train {_number(row['train_loss'], 6)} valid {_number(row['valid_loss'], 6)} "]
    parts += [
        f"{title} {form.format(row[f'valid_{key}'])}".replace(" 0.", " .")
        for key, (title, form) in SCORES.items()
        if f"valid_{key}" in row
    ]
    parts.append(f"{row['seconds']:>3.0f} s" + (f", {row['skipped']} skipped" if row["skipped"] else ""))
    terms = [name.removeprefix("weight_") for name in row if name.startswith("weight_")]
    if len(terms) > 1:
        shown = [f"{name} {_number(row[f'valid_{name}'], 4)}" for name in terms]
        parts.append(f" ({', '.join(shown)})")
    return " ".join(parts)


def _number(value: float, width: int) -> str:
    """Return a number of about three digits, right-aligned."""
    plain = f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{plain if abs(value) >= 0.1 else f'{value:.2g}':>{width}}"


def describe_end(config: Config, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the best epoch, the path of its network, and the command that tests it."""
    best = best_epochs(history, config.best_by)[-1]
    row = history[best - 1]
    found = f"PESQ {row['valid_pesq']:.3f}" if config.best_by == "pesq" else f"loss {row['valid_loss']:.4g}"
    early = f" (no new best in {config.patience} epochs)" if len(history) < config.epochs else ""
    return (
        f"{config.run_dir}: ended after epoch {len(history)}{early}; best epoch: {best}, validation {found}, "
        f"{config.run_dir / 'best.pt'}\nnext: python test.py --name {config.run_name}"
    )
