"""Publish comparisons: the tables of docs/ and README.md, and the data behind them.

    python -m tools.publish demo real  # from the runs of tools.sweep --name demo and --name real
    python -m tools.publish            # tables and figures again, from what was published before
    python -m tools.publish --samples demo  # also the listening page, with samples of these runs

results/published/<name>/<run>/ keeps settings, history, scores and environment of each run; figures are in
results/published/<name>/. Pages show the comparisons that they have a place for. samples/published/ has the
listening page, with samples at 0 and 5 dB.
"""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import soundfile
import torch
import tyro

from config import DEMO_DATA, SAMPLE_RATE
from dataloader import PackedDataset
from losses import PAPER_LOSSES
from models import load_pretrained, read_checkpoint
from tools.common.audio import read_wav
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import has_block, put_folder, read_json, write_block, write_csv, write_text
from tools.common.run_folder import read_config, read_history
from tools.demo_corpus.corpus import ensure_demo_corpus
from tools.reports.comparison import (
    Run,
    check_same_data,
    find_differences,
    first_runs,
    group_runs,
    pool_seeds,
    read_run,
)
from tools.reports.difference_tables import difference_cells, how_to_read, verdict_cells
from tools.reports.figures import (
    difference_figure,
    save_figure,
    score_curves,
    spectrogram_figure,
    spectrogram_grid,
    training_curves,
)
from tools.reports.page import Page, collect_audio, samples_folders, write_page
from tools.reports.published import BASELINE, CALL, results_text, shown_scores, whole_grid_table
from tools.reports.sentences import alarms, independent_utterances
from tools.reports.tuning import read_tuning
from tools.reports.votes import comparison_id

RESULTS, SAMPLES = Path("results/published"), Path("samples/published")
DOCS, SUMMARIES = Path("docs"), Path("README.md")
KEPT = ("config.json", "history.csv")
TUNING = "tuning.csv"
PLACES = 4  # decimal places of the kept scores
SAMPLES_DB = (0.0, 5.0)


class _Epoch(msgspec.Struct):
    epoch: float
    seconds: float
    train_loss: float
    valid_loss: float


class _Progress(msgspec.Struct):
    step: int


class _Data(msgspec.Struct):
    samples: int


class _Last(msgspec.Struct):
    progress: _Progress


@dataclasses.dataclass(frozen=True)
class PublishSettings:
    """What to publish."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Comparisons whose runs to copy: those called <name>_<loss>_seed<seed>."""
    samples: str = ""
    """The comparison whose samples to publish too, if any."""
    samples_data: str = DEMO_DATA
    """The test set of these samples, which must have a free licence."""
    utterance: int = 0
    """The utterance to listen to."""
    enhancer: bool = False
    """Also publish this utterance of the demo corpus enhanced by the packaged network."""


def publish(settings: PublishSettings) -> None:
    """Copy the runs, then write figures, tables and samples; UserError if something is missing."""
    for name in settings.names:
        take(find_runs(name), RESULTS / name)
    answers = {}
    for folder in sorted(RESULTS.glob("[!.]*/")):
        groups = sort_groups(
            group_runs([read_run(str(path)) for path in sorted(folder.iterdir()) if path.is_dir()])
        )
        histories = {
            label: {run.config.seed: read_history(run.folder) for run in runs} for label, runs in groups.items()
        }
        rows, signals = pool_seeds(groups), ["noisy", *groups]
        scores, tuning = shown_scores(rows), folder / TUNING
        save_figure(score_curves(rows, scores, signals), folder, "curves", ["png"])
        save_figure(training_curves(histories), folder, "training", ["png"])
        page, part = find_page(folder.name)
        differences = find_differences(rows, BASELINE, scores, groups)
        verdict = whole_grid_table(rows, differences, signals)
        write_block(page, part, results_text(groups, verdict, read_tuning(tuning) if tuning.is_file() else ()))
        if has_block(SUMMARIES, f"summary of {folder.name}"):
            write_block(SUMMARIES, f"summary of {folder.name}", verdict)
            answers[f"{groups[BASELINE][0].config.model} ({folder.name})"] = differences
        print(f"{folder}: scores and figures; {page}: tables")
    if answers:
        save_figure(difference_figure(answers), RESULTS, "differences", ["png"])
    if settings.samples:
        publish_samples(settings)
    if settings.enhancer:
        publish_enhancer(settings.utterance)


def find_page(name: str) -> tuple[Path, str]:
    """Return the page for a comparison's tables and the name of its part; UserError if there is none."""
    part = f"results of {name}"
    pages = [page for page in sorted(DOCS.glob("*.md")) if has_block(page, part)]
    if len(pages) != 1:
        raise UserError(
            f"{DOCS}: found {len(pages)} pages with a part <!-- {part} -->, expected one; write that line and "
            f"<!-- end of {part} --> into the page that should show the tables"
        )
    return pages[0], part


def find_runs(name: str, data: str = "") -> list[Run]:
    """Return the tested runs of a sweep. data: the set they were tested on, if there are several."""
    folders = sorted(Path("runs").glob(f"{name}_*_seed*"))
    template = f"{name}_{{loss}}_seed{{seed}}"  # demo_tuned_MSE_seed0 is no run of demo
    folders = [f for f in folders if dataclasses.replace(read_config(f), name=template).run_name == f.name]
    runs = [read_run(str(folder), data) for folder in folders]
    if len(runs) < 2:
        raise UserError(f"runs/{name}_*_seed*: found {len(runs)}, expected the runs of tools.sweep --name {name}")
    check_same_data(runs)
    return runs


def sort_groups(groups: Mapping[str, list[Run]]) -> dict[str, list[Run]]:
    """Sort losses in the paper's order, then others; UserError without the baseline and another one."""
    if BASELINE not in groups or len(groups) < 2:
        raise UserError(f"found runs of {', '.join(groups)}, expected {BASELINE}, the baseline, and others")
    order = {loss: number for number, loss in enumerate(PAPER_LOSSES)}
    return {
        label: groups[label] for label in sorted(groups, key=lambda label: (order.get(label, len(order)), label))
    }


def take(runs: Sequence[Run], folder: Path) -> None:
    """Copy the published files of runs; the folder is replaced as a whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for run in runs:
            (partial / run.folder.name).mkdir(parents=True)
            for kept in KEPT:
                shutil.copyfile(run.folder / kept, partial / run.folder.name / kept)
            scores = [
                {k: round(v, PLACES) if isinstance(v, float) else v for k, v in row.items()} for row in run.rows
            ]
            write_csv(partial / run.folder.name / "test" / "scores.csv", scores)
            again = "train the run again"
            msgspec.convert(read_history(run.folder), list[_Epoch])
            calls = read_json(run.folder / "environment.json", list[CALL], again)
            last = msgspec.convert(read_checkpoint(run.folder / "last.pt"), _Last)
            data = read_json(Path(run.config.data) / "dataset.json", _Data, "make the set with tools.make_dataset")
            facts = {"steps": last.progress.step, "item_samples": data.samples, "calls": calls}
            write_text(partial / run.folder.name / "facts.json", json.dumps(facts, indent=1) + "\n")
        if (tuning := Path("results") / folder.name / TUNING).is_file():
            shutil.copyfile(tuning, partial / TUNING)
        put_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish_samples(settings: PublishSettings) -> None:
    """Write the listening page with its audio, and a figure of its spectrograms, in samples/published/."""
    groups = sort_groups(group_runs(find_runs(settings.samples, settings.samples_data)))
    rows, signals = pool_seeds(groups), ["noisy", *groups]
    places = collect_audio(samples_folders(groups), rows, (settings.utterance,))
    places = [place for place in places if place.snr_db in SAMPLES_DB]
    if not places:
        raise UserError(f"samples: found none of {settings.samples} at 0 or 5 dB, expected a test grid with one")
    scores = shown_scores(rows)
    differences = find_differences(rows, BASELINE, scores, groups)
    with tempfile.TemporaryDirectory() as folder:
        save_figure(score_curves(rows, scores, signals), Path(folder), "curves", ["png"])
        page = Page(
            "The losses, side by side",
            verdict_cells(rows, differences, signals, BASELINE),
            [how_to_read(groups), *independent_utterances(rows), *alarms(groups, left_out=False)],
            rows,
            signals,
            difference_cells(differences, BASELINE, scores),
            scores,
            Path(folder) / "curves.png",
            places,
            pool_seeds(first_runs(groups)),
            comparison=comparison_id(places),
        )
        shutil.rmtree(SAMPLES / "audio", ignore_errors=True)
        write_page(SAMPLES, page)
    waveforms = {name: read_wav(path) / 32768 for name, path in places[-1].files.items()}  # unseen noise
    save_figure(spectrogram_grid(waveforms), SAMPLES, "spectrograms", ["png"], dpi=80)  # as wide as a README
    print(f"{SAMPLES}: {sum(len(place.files) for place in places)} samples, index.html to listen to them")


def publish_enhancer(utterance: int) -> None:
    """Write noisy, enhanced and clean speech of the demo corpus, with spectrograms, in samples/published/."""
    ensure_demo_corpus()
    test, model, samples, pairs = PackedDataset(DEMO_DATA, "test"), load_pretrained(), {}, {}
    for number in range(len(test)):
        noise, snr_db, found = test.cell(number)
        if found != utterance or snr_db not in SAMPLES_DB:
            continue
        noisy, clean, _ = test[number]
        with torch.inference_mode():
            enhanced = model(noisy[None])[0]
        waveforms = {"noisy": noisy.numpy(), "enhanced": enhanced.numpy(), "clean": clean.numpy()}
        samples |= {f"{noise}_{snr_db:g}dB_{name}.flac": waveform for name, waveform in waveforms.items()}
        if snr_db == SAMPLES_DB[-1]:
            pairs[f"{noise} noise, {snr_db:g} dB"] = waveforms
    if not samples:
        raise UserError(f"utterance: found {utterance}, expected 0 to {test.grid[-1] - 1}")
    folder = SAMPLES / "enhancer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, waveform in samples.items():
        soundfile.write(folder / name, waveform, SAMPLE_RATE, subtype="PCM_16")
    save_figure(spectrogram_figure(pairs), folder, "spectrograms", ["png"], dpi=80)
    print(f"{folder}: samples of the packaged network, and their spectrograms")


def main() -> None:
    publish(parse_arguments(PublishSettings, __doc__))


if __name__ == "__main__":
    run_command(main)
