"""Test a trained network on the noise × dB grid: tables of scores, curves, spectrograms, samples to listen to.

    python test.py --loss SI-SNR+LMS

Takes the run's best checkpoint and settings from runs/<name>/; writes runs/<name>/test/<data>/ and
samples/<name>/<data>/. Rerun the same command to resume after an interruption. To test a checkpoint without a run:
`python test.py --init pretrained --name pretrained --data data/mycorpus`. To test another system:

    python test.py --data data/mycorpus --write_noisy noisy            # the grid as WAV files, to be enhanced
    python test.py --data data/mycorpus --outputs enhanced --name RNNoise
"""

import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import numpy as np
import pandas as pd

from config import MAY_DIFFER, SAMPLE_RATE, Config
from dataloader import PackedDataset, build_loader
from dataloader.files import read_records
from models import enhance_all, read_checkpoint, read_trained, rebuild_model
from tools.common.audio import sample_path, write_wav
from tools.common.command_line import run_command
from tools.common.device import find_device, keep_freed_memory, use_threads
from tools.common.errors import UserError
from tools.common.files import exclusive, fingerprint, write_csv
from tools.common.run_folder import checkpoint_path, log_console, note_test, read_config, save_config, test_folder
from tools.common.settings import Arguments, named_settings, parse_with_config
from tools.reports.comparison import SIGNALS
from tools.reports.figures import save_figure, spectrogram_figure
from tools.reports.page import collect_samples
from tools.reports.report import report
from tools.scoring.grid import (
    CLEAN,
    ENHANCED,
    NOISY,
    ScoreCache,
    clean_errors,
    constant_delay,
    find_outputs,
    find_texts,
    read_output,
    score_missing,
    write_grid,
)
from tools.scoring.opinions import word_errors
from tools.scoring.scores import METRICS, computed, installed_metrics
from tools.scoring.suspect import find_suspect

Enhanced = tuple[int, np.ndarray, np.ndarray, np.ndarray]  # number, noisy, clean and estimate, [samples] each


@dataclasses.dataclass(frozen=True)
class TestArguments(Arguments):
    """Options of test.py beside the config."""

    write_noisy: Path | None = None
    """Only write the noisy speech of the test grid to this folder, <noise type>/<dB>dB/<utterance>.wav, and the
    clean speech to a second one, <folder>_clean."""
    outputs: Path | None = None
    """Score these files, which another system made of those of --write_noisy, instead of a network's output. A
    constant delay of up to 0.1 s is taken out."""


def test(config: Config, outputs: Path | None = None) -> None:  # noqa: PT028, no test of pytest's
    """Score the run's best checkpoint, or another system's outputs, on config.data's test grid; write a report."""
    metrics = installed_metrics(config.metrics)
    use_threads(config.threads, sharing=2)  # the processes that score need the other half of the cores
    grid = PackedDataset(config.data, "test")
    drawn = find_drawn(config.data, grid)
    texts = find_texts(config.data, grid, [item["clean_id"] for item in drawn]) if "wer" in metrics else None
    if unknown := set(config.wer_talkers) - {item["talker"] for item in drawn}:
        raise UserError(f"wer_talkers: found {', '.join(sorted(unknown))}, expected talkers of {grid.path}")
    plotted = choose_plotted(grid, config.show)
    saved = {n for n in range(len(grid)) if grid.cell(n)[2] < config.samples}
    enhanced, origin, source = find_enhanced(config, outputs, grid)
    folder = test_folder(config.run_dir, config.data)
    samples = Path("samples") / config.run_name / folder.name
    shutil.rmtree(samples, ignore_errors=True)

    # Enhance and score what is not scored yet; noisy speech is scored once for all runs.
    caches = open_caches(config, metrics, grid, drawn, origin)
    missing = [n for n in range(len(grid)) for cache in caches.values() if cache.missing(n)]
    numbers = sorted({*missing, *saved, *plotted})
    spectrograms = []

    def items() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for number, noisy, clean, estimate in enhanced(numbers):
            waveforms = {"clean": clean, "noisy": noisy, "enhanced": estimate}
            if number in saved:
                for name, waveform in waveforms.items():
                    write_wav(sample_path(samples, grid.cell(number), name), waveform)
            if number in plotted:
                spectrograms.append(("{}, {:g} dB, utterance {}".format(*grid.cell(number)), waveforms))
            yield number, waveforms

    score_missing(caches, items(), len(missing))
    scores = collect_scores(grid, caches, drawn, texts)
    write_csv(folder / "scores.csv", scores.to_dict("records"))
    note_test(folder, origin)

    if spectrograms:
        save_figure(spectrogram_figure(spectrograms), folder, "spectrograms")
    heard = collect_samples({"enhanced": samples}, scores, [u for u in config.show if u < config.samples])
    notes = [f"{config.data}, {source}, {grid.grid[2]} utterances a cell."]
    if texts:
        notes.append(clean_errors(caches["clean"], texts))
    report(folder, config.run_name, scores.assign(seed=config.seed), "noisy", metrics, heard, notes=notes)
    print(f"Samples are in {samples}")


def find_enhanced(
    config: Config, outputs: Path | None, grid: PackedDataset
) -> tuple[Callable[[Sequence[int]], Iterator[Enhanced]], dict[str, str], str]:
    """Return what is tested: a function from numbers to items, their files' fingerprints, and a note on them."""
    if outputs:
        files = find_outputs(outputs, grid)
        delay = constant_delay(files, grid)

        def read(numbers: Sequence[int]) -> Iterator[Enhanced]:
            for number in numbers:
                noisy, clean = (waveform.numpy() for waveform in grid[number][:2])
                yield number, noisy, clean, read_output(files[number], grid.samples, delay)

        note = f"outputs in {outputs}, delayed by {1000 * delay / SAMPLE_RATE:g} ms (compensated)"
        return read, {"outputs": fingerprint(*files)}, note
    device = find_device(config.device)
    best, content = find_network(config)
    model = rebuild_model(best, content).to(device)

    def enhance(numbers: Sequence[int]) -> Iterator[Enhanced]:
        return enhance_all(model, build_loader(config, "test", device, numbers))

    return enhance, {"checkpoint": fingerprint(best)}, f"best checkpoint (epoch {content['epoch']})"


def open_caches(
    config: Config,
    metrics: Sequence[str],
    grid: PackedDataset,
    drawn: Sequence[dict[str, Any]],
    origin: dict[str, Any],
) -> dict[str, ScoreCache]:
    """Return the scores kept so far of each signal; those of the clean speech are the words heard in it."""
    names = computed(metrics)
    slow = {"text", *(name for name, metric in METRICS.items() if metric.packages)}

    def left_out(number: int) -> set[str]:
        names = slow if 0 < config.opinions <= grid.cell(number)[2] else set()
        if config.wer_talkers:
            names = names - {"text"} if drawn[number]["talker"] in config.wer_talkers else names | {"text"}
        return names

    data, folder = Path(config.data), test_folder(config.run_dir, config.data)
    caches = {
        "noisy": ScoreCache(data / NOISY, grid.path, names, left_out=left_out),
        "enhanced": ScoreCache(folder / ENHANCED, grid.path, names, origin, left_out),
    }
    if "wer" in metrics:
        caches["clean"] = ScoreCache(data / CLEAN, grid.path, ("text",), left_out=left_out)
    return caches


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


def find_drawn(data: str, grid: PackedDataset) -> list[dict[str, Any]]:
    """Return number of the clean speech, talker and noise recording of each item: what some of them share.

    If the set does not list its items, clean speech is numbered by utterance, and the others are empty.
    """
    records = [record for split, record in read_records(data) if split == "test"]
    by_row = {(record.get("row", record.get("noise_type")), record["utterance"]): record for record in records}
    drawn, numbers = [], {}
    for noise_type, _, utterance in map(grid.cell, range(len(grid))):
        record = by_row.get((noise_type, utterance), {})
        noise = record.get("noise", "")
        if isinstance(noise, list):  # stretches of several recordings
            noise = noise[0]["file"]
        clean = record.get("speech", utterance), record.get("start")
        number = numbers.setdefault(clean, len(numbers))
        drawn.append({"clean_id": number, "talker": record.get("talker", ""), "noise": noise})
    return drawn


def collect_scores(
    grid: PackedDataset,
    caches: dict[str, ScoreCache],
    drawn: Sequence[dict[str, Any]],
    texts: Sequence[str] | None,
) -> pd.DataFrame:
    """Return the rows of scores.csv, one an utterance and signal."""
    rows = []
    for number in range(len(grid)):
        cell = dict(zip(("noise_type", "snr_db", "utterance"), grid.cell(number), strict=True))
        for signal in SIGNALS:
            values, reasons = caches[signal].row(number)
            if "text" in values:
                of_clean = caches["clean"][number].values["text"]
                values |= word_errors(values.pop("text"), texts and texts[number], of_clean)
            rows.append(cell | {"signal": signal} | values | {"suspect": "", "missing": reasons} | drawn[number])
    scores = pd.DataFrame(rows)
    return scores.assign(suspect=find_suspect(scores))


def parse_test_config() -> tuple[Config, TestArguments]:
    """Return the run's config with the changes on the command line that a test may make, and the other options.

    Raises UserError.
    """
    asked, arguments = parse_with_config(TestArguments, __doc__)
    given = named_settings(sys.argv[1:])
    trained = (asked.run_dir / "config.json").is_file()
    if arguments.outputs and ("name" not in given or trained):
        raise UserError(
            f"name: found {asked.run_name}, expected a new --name for the system that made the outputs"
        )
    if arguments.outputs or arguments.write_noisy or (asked.init and not trained):
        return asked, arguments
    saved = read_config(asked.run_dir)
    wanted, before = asked.flat(), saved.flat()
    names = wanted.keys() & given
    for name in sorted(names - MAY_DIFFER["tested"]):
        if wanted[name] != before.get(name):
            was = f"{saved.run_dir} was trained with {before.get(name)}"
            raise UserError(f"{name}: found {wanted[name]}, but {was}; leave it out")
    changes = {name: getattr(asked, name) for name in names & MAY_DIFFER["tested"]}
    return dataclasses.replace(saved, **changes), arguments


def main() -> None:
    config, arguments = parse_test_config()
    if arguments.write_noisy:
        write_grid(arguments.write_noisy, PackedDataset(config.data, "test"))
        return
    keep_freed_memory()
    with exclusive(config.run_dir / "test"), log_console(config.run_dir / "log.txt"):
        test(config, arguments.outputs)


if __name__ == "__main__":
    run_command(main)
