"""Test a trained network on the noise × dB grid: tables of scores, curves, spectrograms, samples to listen to.

    python test.py --loss SI-SNR+LMS

Takes the run's best checkpoint and settings from runs/<name>/; writes runs/<name>/test/<data>/ and
samples/<name>/<data>/. Rerun the same command to resume after an interruption. To test a checkpoint without a run:
`python test.py --init pretrained --name pretrained --data data/mycorpus`.
"""

import dataclasses
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import numpy as np

from config import MAY_DIFFER, Config
from dataloader import PackedDataset, build_loader
from models import enhance, read_checkpoint, read_trained, rebuild_model
from tools.common.audio import sample_path, write_wav
from tools.common.command_line import run_command
from tools.common.device import find_device, keep_freed_memory, use_threads
from tools.common.errors import UserError
from tools.common.files import exclusive, write_csv, write_text
from tools.common.run_folder import checkpoint_path, log_console, note_test, read_config, save_config, test_folder
from tools.common.settings import named_settings, parse_config
from tools.reports.comparison import find_differences
from tools.reports.difference_tables import difference_cells, verdict_cells
from tools.reports.figures import save_figure, score_curves, spectrogram_figure
from tools.reports.page import Page, collect_audio, write_page
from tools.reports.sentences import independent_utterances
from tools.reports.tables import SIGNALS, average_gain, latex_table, listed, plain_text, score_table
from tools.scoring.alarm import CONTRADICTED, contradiction
from tools.scoring.independence import number_clean
from tools.scoring.kept_scores import ENHANCED, NOISY, KeptScores, score_lacking
from tools.scoring.scores import CHECKS, Scores, choose_scores

PLACE = "{noise_type}, {snr_db:g} dB, utterance {utterance}, {signal}"


def test(config: Config) -> None:
    """Score the run's best checkpoint on config.data's test grid; write tables, figures and samples."""
    names = choose_scores(config.metrics)
    device = find_device(config.device)
    use_threads(config.threads)
    best, content = find_network(config)
    model = rebuild_model(best, content).to(device)
    grid = PackedDataset(config.data, "test")
    drawn = choose_drawn(grid, config.show)
    to_save = {n for n in range(len(grid)) if grid.cell(n)[2] < config.samples}
    folder = test_folder(config.run_dir, config.data)
    samples = Path("samples") / config.run_name / folder.name
    shutil.rmtree(samples, ignore_errors=True)

    # Enhance and score what is not scored yet; noisy speech is scored once for all runs.
    kept = {
        "noisy": KeptScores(Path(config.data) / NOISY, grid.path, names + CHECKS),
        "enhanced": KeptScores(folder / ENHANCED, grid.path, names + CHECKS, best),
    }
    lacking = [n for n in range(len(grid)) for signal in SIGNALS if kept[signal].lacking(n)]
    loader = build_loader(config, "test", device, sorted({*lacking, *to_save, *drawn}))

    def items() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for number, noisy, clean, estimate in enhance(model, loader):
            waveforms = {"clean": clean, "noisy": noisy, "enhanced": estimate}
            if number in to_save:
                save_samples(samples, grid.cell(number), waveforms)
            if number in drawn:
                drawn[number] = waveforms
            yield number, waveforms

    score_lacking(kept, items(), len(lacking))
    clean = number_clean(grid[n][1].numpy() for n in range(len(grid)))
    rows = [
        score_row(grid, n, signal, kept[signal][n], names + CHECKS) | {"clean": clean[n]}
        for n in range(len(grid))
        for signal in SIGNALS
    ]
    write_csv(folder / "scores.csv", rows)
    note_test(folder, best)
    titles = ("{}, {:g} dB, utterance {}".format(*grid.cell(number)) for number in drawn)
    source = (
        f"{config.data}, best checkpoint (epoch {content['epoch']}), {grid.grid[2]} utterances a cell, the "
        "best of each column bold."
    )
    report(folder, f"# {config.run_name}\n\n{source}", rows, names, dict(zip(titles, drawn.values(), strict=True)))
    write_run_page(config, samples, folder, rows, names)
    print(f"Scores, tables and figures are in {folder}, samples in {samples}; open {folder}/index.html to listen")


def find_network(config: Config) -> tuple[Path, dict[str, Any]]:
    """Return path and content of the checkpoint to test: the run's best.pt, or config.init if there is none."""
    best = config.run_dir / "best.pt"
    if config.init and not best.is_file():
        save_config(config)
        best = checkpoint_path(config.init)
        return best, read_checkpoint(best)
    return best, read_trained(best, config)


def report(folder: Path, head: str, rows: list[dict], names: Sequence[str], drawn: dict[str, dict]) -> None:
    """Print and write tables, problems and figures. drawn: waveforms to draw spectrograms of, by title."""
    tables = [score_table(rows, name).strip() for name in names]
    problems = [*listed(CONTRADICTED, rows, "alarm", PLACE), *listed("Without a score", rows, "missing", PLACE)]
    text = "\n\n".join([head, *tables, gain_and_polarity(rows), *problems]) + "\n"
    write_text(folder / "tables.md", text)
    write_text(folder / "tables.tex", "\n".join(latex_table(rows, name) for name in names))
    save_figure(score_curves(rows, names), folder, "curves")
    if drawn:
        save_figure(spectrogram_figure(drawn), folder, "spectrograms")
    print(plain_text(text))
    gains = ", ".join(f"{name} {average_gain(rows, name):+.3f}" for name in names)
    print(f"{gains} (enhanced over noisy, average)")


def choose_drawn(grid: PackedDataset, utterances: Sequence[int]) -> dict[int, dict]:
    """Return a dict by item number, in order: utterances at lowest, middle and highest dB of each noise type."""
    noises, snrs, count = grid.grid
    beyond = [utterance for utterance in utterances if utterance >= count]
    if beyond:
        raise UserError(f"show: found {beyond[0]}, but {grid.path} has {count} utterances, 0 to {count - 1}")
    by_level = sorted(range(snrs), key=grid.description.snr_db.__getitem__)
    levels = dict.fromkeys((by_level[0], by_level[snrs // 2], by_level[-1]))
    return {
        (noise * snrs + level) * count + utterance: {}
        for noise in range(noises)
        for level in levels
        for utterance in dict.fromkeys(utterances)
    }


def save_samples(folder: Path, place: tuple[str, float, int], waveforms: dict) -> None:
    """Write <noise type>/<dB>dB/<utterance>_{noisy,enhanced,clean}.wav."""
    for name, waveform in waveforms.items():
        write_wav(sample_path(folder, place, name), waveform)


def score_row(grid: PackedDataset, number: int, signal: str, scores: Scores, names: Sequence[str]) -> dict:
    """Return the row of scores.csv for a signal of an item."""
    place = dict(zip(("noise_type", "snr_db", "utterance"), grid.cell(number), strict=True))
    missing = "; ".join(f"{name}: {reason}" for name, reason in scores.failed.items() if name in names)
    values = {name: scores.values[name] for name in names}
    return place | {"signal": signal} | values | {"alarm": contradiction(values), "missing": missing}


def write_run_page(config: Config, samples: Path, folder: Path, rows: list[dict], metrics: Sequence[str]) -> None:
    """Write the page of the run: noisy, enhanced and clean to listen to, and enhanced against noisy."""
    differences = find_differences(rows, "noisy", metrics)
    heard = [utterance for utterance in config.show if utterance < config.samples]
    places = collect_audio({"enhanced": samples}, rows, heard)
    verdict = verdict_cells(rows, differences, SIGNALS, "noisy")
    cells, curves = difference_cells(differences, "noisy", metrics), folder / "curves.png"
    notes = [gain_and_polarity(rows), *independent_utterances(rows)]
    wrong = [f"{PLACE.format_map(row)}: {row['alarm']}" for row in rows if row["alarm"]]
    if wrong:
        notes.append(
            f"Attention: PESQ cannot be right in {len(wrong)} utterances, such as {'; '.join(wrong[:4])}."
        )
    page = Page(config.run_name, verdict, notes, rows, SIGNALS, cells, metrics, curves, places, heard=rows)
    write_page(folder, page)


def gain_and_polarity(rows: list[dict]) -> str:
    """Return a paragraph on what SI-SNR does not see: gain and polarity of the speech in the estimate."""
    enhanced = [row for row in rows if row["signal"] == "enhanced" and not math.isnan(row["gain_db"])]
    if not enhanced:
        return "The gain of the speech could not be measured in any utterance."
    gains = [row["gain_db"] for row in enhanced]
    inverted = sum(row["polarity"] < 0 for row in enhanced)
    return (
        f"The speech in the enhanced signal has a gain of {sum(gains) / len(gains):+.1f} dB on average "
        f"({min(gains):+.1f} to {max(gains):+.1f}) and is inverted in {inverted} of {len(gains)} utterances."
    )


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
