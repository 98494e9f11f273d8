"""Test a trained network on the noise × dB grid: tables of scores, curves, spectrograms, samples to listen to.

    python test.py --loss SI-SNR+LMS

Takes the run's best checkpoint and settings from runs/<name>/; writes runs/<name>/test/<data>/ and
samples/<name>/<data>/. Rerun the same command to resume after an interruption. To test a checkpoint without a run:
`python test.py --init pretrained --name pretrained --data data/mycorpus`.
"""

import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import numpy as np
import pandas as pd

from config import MAY_DIFFER, Config
from dataloader import PackedDataset, build_loader
from models import enhance, read_checkpoint, read_trained, rebuild_model
from tools.common.audio import sample_path, write_wav
from tools.common.command_line import run_command
from tools.common.device import find_device, keep_freed_memory, use_threads
from tools.common.errors import UserError
from tools.common.files import exclusive, write_csv
from tools.common.run_folder import checkpoint_path, log_console, note_test, read_config, save_config, test_folder
from tools.common.settings import named_settings, parse_config
from tools.reports.comparison import SIGNALS
from tools.reports.figures import save_figure, spectrogram_figure
from tools.reports.page import collect_samples
from tools.reports.report import report
from tools.scoring.cache import ENHANCED, NOISY, ScoreCache, number_clean, score_missing
from tools.scoring.scores import CHECKS, installed_metrics
from tools.scoring.suspect import find_suspect


def test(config: Config) -> None:
    """Score the run's best checkpoint on config.data's test grid; write tables, figures and samples."""
    metrics = installed_metrics(config.metrics)
    device = find_device(config.device)
    use_threads(config.threads)
    best, content = find_network(config)
    model = rebuild_model(best, content).to(device)
    grid = PackedDataset(config.data, "test")
    plotted = choose_plotted(grid, config.show)
    saved = {n for n in range(len(grid)) if grid.cell(n)[2] < config.samples}
    folder = test_folder(config.run_dir, config.data)
    samples = Path("samples") / config.run_name / folder.name
    shutil.rmtree(samples, ignore_errors=True)

    # Enhance and score what is not scored yet; noisy speech is scored once for all runs.
    caches = {
        "noisy": ScoreCache(Path(config.data) / NOISY, grid.path, (*metrics, *CHECKS)),
        "enhanced": ScoreCache(folder / ENHANCED, grid.path, (*metrics, *CHECKS), best),
    }
    missing = [n for n in range(len(grid)) for signal in SIGNALS if caches[signal].missing(n)]
    loader = build_loader(config, "test", device, sorted({*missing, *saved, *plotted}))
    spectrograms = []

    def items() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for number, noisy, clean, estimate in enhance(model, loader):
            waveforms = {"clean": clean, "noisy": noisy, "enhanced": estimate}
            if number in saved:
                for name, waveform in waveforms.items():
                    write_wav(sample_path(samples, grid.cell(number), name), waveform)
            if number in plotted:
                spectrograms.append(("{}, {:g} dB, utterance {}".format(*grid.cell(number)), waveforms))
            yield number, waveforms

    score_missing(caches, items(), len(missing))
    scores = collect_scores(grid, caches, (*metrics, *CHECKS))
    write_csv(folder / "scores.csv", scores.to_dict("records"))
    note_test(folder, best)

    if spectrograms:
        save_figure(spectrogram_figure(spectrograms), folder, "spectrograms")
    source = f"{config.data}, best checkpoint (epoch {content['epoch']}), {grid.grid[2]} utterances a cell."
    heard = collect_samples({"enhanced": samples}, scores, [u for u in config.show if u < config.samples])
    report(folder, config.run_name, scores.assign(seed=config.seed), "noisy", metrics, heard, notes=[source])
    print(f"Samples are in {samples}")


def find_network(config: Config) -> tuple[Path, dict[str, Any]]:
    """Return path and content of the checkpoint to test: the run's best.pt, or config.init if there is none."""
    best = config.run_dir / "best.pt"
    if config.init and not best.is_file():
        save_config(config)
        best = checkpoint_path(config.init)
        return best, read_checkpoint(best)
    return best, read_trained(best, config)


def choose_plotted(grid: PackedDataset, utterances: Sequence[int]) -> set[int]:
    """Return the numbers of the utterances at the lowest, middle and highest dB of each noise type."""
    count, levels = grid.grid[2], sorted(grid.description.snr_db)
    beyond = [utterance for utterance in utterances if utterance >= count]
    if beyond:
        raise UserError(f"show: found {beyond[0]}, but {grid.path} has {count} utterances, 0 to {count - 1}")
    shown = levels[0], levels[len(levels) // 2], levels[-1]
    cells = ((number, *grid.cell(number)) for number in range(len(grid)))
    return {number for number, _, snr_db, utterance in cells if snr_db in shown and utterance in utterances}


def collect_scores(grid: PackedDataset, caches: dict[str, ScoreCache], names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of scores.csv, one an utterance and signal."""
    clean_id = number_clean(grid[number][1].numpy() for number in range(len(grid)))
    rows = []
    for number in range(len(grid)):
        cell = dict(zip(("noise_type", "snr_db", "utterance"), grid.cell(number), strict=True))
        for signal in SIGNALS:
            found = caches[signal][number]
            reasons = [f"{name}: {reason}" for name, reason in found.failed.items() if name in names]
            values = {name: found.values[name] for name in names}
            extra = {"suspect": "", "missing": "; ".join(reasons), "clean_id": clean_id[number]}
            rows.append(cell | {"signal": signal} | values | extra)
    scores = pd.DataFrame(rows)
    return scores.assign(suspect=find_suspect(scores))


def parse_test_config() -> Config:
    """Return the run's config with the changes on the command line that a test may make. Raises UserError."""
    asked = parse_config(__doc__)
    if asked.init and not (asked.run_dir / "config.json").is_file():
        return asked
    saved = read_config(asked.run_dir)
    wanted, trained = asked.flat(), saved.flat()
    names = wanted.keys() & named_settings(sys.argv[1:])
    for name in sorted(names - MAY_DIFFER["tested"]):
        if wanted[name] != trained.get(name):
            was = f"{saved.run_dir} was trained with {trained.get(name)}"
            raise UserError(f"{name}: found {wanted[name]}, but {was}; leave it out")
    return dataclasses.replace(saved, **{name: getattr(asked, name) for name in names & MAY_DIFFER["tested"]})


def main() -> None:
    config = parse_test_config()
    keep_freed_memory()
    with exclusive(config.run_dir / "test"), log_console(config.run_dir / "log.txt"):
        test(config)


if __name__ == "__main__":
    run_command(main)
