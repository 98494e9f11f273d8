"""Test a trained network on the noise × dB grid: tables of PESQ, STOI, ESTOI and SI-SDR, samples to listen to.

    python test.py --loss SI-SNR+LMS

Takes the run's best checkpoint and settings from runs/<name>/; writes runs/<name>/test/ and samples/<name>/.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from config import Config
from dataloader import PackedDataset, build_loader
from models import load_model, read_checkpoint
from tools.audio import write_wav
from tools.cli import UserError, parse_config, run_command
from tools.device import find_device
from tools.files import replacing
from tools.run_folder import read_config
from tools.scores import SCORES, ScorePool, Scores
from tools.tables import average_gain, score_table, write_csv

# What may differ from the training: the rest made the network what it is.
FREE_TO_CHANGE = {"name", "data", "device", "workers", "batch_size", "valid_scores", "samples"}


def test(config: Config) -> None:
    """Scores the run's best checkpoint on config.data's test grid and writes tables and samples."""
    device = find_device(config.device)
    best = config.run_dir / "best.pt"
    model = load_model(best, device)
    loader = build_loader(config, "test", device)
    grid: PackedDataset = loader.dataset
    samples = Path("samples") / config.run_name
    shutil.rmtree(samples, ignore_errors=True)

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, noisy, clean, enhanced in enhance(model, loader, device):
            noise, snr, utterance = grid.place(number)
            if utterance < config.samples:
                for name, waveform in (("noisy", noisy), ("enhanced", enhanced), ("clean", clean)):
                    path = samples / noise / f"{snr:g}dB" / f"{utterance:03d}_{name}.wav"
                    write_wav(path, waveform, config.sample_rate)
            yield clean, noisy
            yield clean, enhanced

    with ScorePool() as pool:
        scores = list(tqdm(pool.map(pairs()), "scores", 2 * len(grid), leave=False, disable=None))
    rows = [score_row(grid, number, s) for number, s in enumerate(scores)]

    epoch = read_checkpoint(best)["epoch"]
    head = (
        f"# {config.run_name}\n\n{config.data}, best checkpoint (epoch {epoch}), {grid.grid[2]} utterances a cell."
    )
    report = "\n\n".join([head, *(score_table(rows, name).strip() for name in SCORES), *failures(rows)]) + "\n"
    folder = config.run_dir / "test"
    write_csv(folder / "scores.csv", rows)
    with replacing(folder / "tables.md") as temporary:
        temporary.write_text(report, encoding="utf-8")
    print(report)
    print(
        ", ".join(f"{name} {average_gain(rows, name):+.3f}" for name in SCORES), "(enhanced over noisy, average)"
    )
    print(f"Scores and tables are in {folder}, samples in {samples}")


def enhance(
    model: nn.Module, loader: DataLoader, device: torch.device
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Item number, noisy, clean and enhanced waveform [samples] of every item of the loader, in order."""
    with torch.inference_mode():
        for noisy, clean, numbers in loader:
            estimate = model(noisy.to(device)).cpu()  # [B, samples]
            yield from zip(numbers.tolist(), noisy.numpy(), clean.numpy(), estimate.numpy(), strict=True)


def score_row(grid: PackedDataset, number: int, scores: Scores) -> dict:
    """The row of scores.csv for the number-th scored signal: noisy and enhanced of each item in turn."""
    noise, snr, utterance = grid.place(number // 2)
    place = {
        "noise_type": noise,
        "snr_db": snr,
        "utterance": utterance,
        "signal": ("noisy", "enhanced")[number % 2],
    }
    missing = "; ".join(f"{name}: {reason}" for name, reason in scores.failed.items())
    return place | scores.values | {"missing": missing}


def failures(rows: list[dict]) -> list[str]:
    """A paragraph that names each signal without a score, if there are any."""
    lines = [
        "- {noise_type}, {snr_db:g} dB, utterance {utterance}, {signal}: {missing}".format_map(row)
        for row in rows
        if row["missing"]
    ]
    return ["\n".join([f"### Without a score: {len(lines)} of {len(rows)} signals", "", *lines])] if lines else []


def parse_test_config() -> Config:
    """The run's own config with what the command line changes for the test."""
    saved = read_config(parse_config(__doc__).run_dir)
    config = parse_config(__doc__, saved=saved)
    for field in dataclasses.fields(Config):
        trained, asked = getattr(saved, field.name), getattr(config, field.name)
        if trained != asked and field.name not in FREE_TO_CHANGE:
            raise UserError(
                f"{field.name}: found {asked}, but {saved.run_dir} was trained with {trained}; leave it out"
            )
    return config


def main() -> None:
    test(parse_test_config())


if __name__ == "__main__":
    run_command(main)
