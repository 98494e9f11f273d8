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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import soundfile
import tyro

from config import DEMO_DATA, SAMPLE_RATE, Config
from dataloader import PackedDataset, build_loader
from models import build_model, complete, enhance, load_pretrained, read_checkpoint
from tools.common.audio import read_wav
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import has_block, put_folder, write_block, write_csv, write_text
from tools.common.run_folder import read_config, read_history
from tools.demo_corpus.corpus import ensure_demo_corpus
from tools.reports import comparison, figures, report, tables
from tools.reports.comparison import EVERYWHERE, Run, trained_run
from tools.reports.page import collect_samples
from tools.reports.tables import Table
from tools.scoring.scores import METRICS

RESULTS, SAMPLES = Path("results/published"), Path("samples/published")
DOCS, README = Path("docs"), Path("README.md")
COPIED = ("config.json", "history.csv")
TUNING = "tuning.csv"
PLACES = 4  # decimal places of the kept scores
# Other entries of environment.json are private details of the machine.
PUBLIC = ("started", "python", "packages", "device", "gpu", "cpu", "cores", "threads", "commit", "changed")
SAMPLES_DB = (0.0, 5.0)
BASELINE = "SI-SNR"
SHOWN = ("pesq", "stoi", "estoi", "si_sdr", "dnsmos_ovrl")


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
        copy_runs(find_runs(name), RESULTS / name)
    answers = {}
    for folder in sorted(RESULTS.glob("[!.]*/")):
        labelled = sort_labels(trained_run(path, path / "test/scores.csv") for path in folder.glob("*/"))
        scores = comparison.join_scores(labelled)
        metrics = [name for name in SHOWN if name in scores]
        histories = {
            label: [pd.DataFrame(read_history(run.folder)) for run in runs] for label, runs in labelled.items()
        }
        figures.save_figure(figures.score_curves(scores, metrics), folder, "curves", ["png"])
        figures.save_figure(figures.training_curves(histories), folder, "training", ["png"])
        differences = comparison.find_differences(scores, BASELINE, metrics)
        verdict = tables.verdict_table(scores, differences, BASELINE, metrics)
        rates = comparison.read_rates(folder / TUNING) if (folder / TUNING).is_file() else None
        page = find_page(folder.name)
        text = "\n\n".join([conditions(labelled), results_text(scores, verdict, metrics, rates)])
        write_block(page, f"results of {folder.name}", text)
        if has_block(README, summary := f"summary of {folder.name}"):
            write_block(README, summary, verdict.markdown())
            answers[f"{labelled[BASELINE][0].settings['model']} ({folder.name})"] = differences
        print(f"{folder}: scores and figures; {page}: tables")
    if answers:
        figures.save_figure(figures.difference_figure(answers), RESULTS, "differences", ["png"])
    if settings.samples:
        publish_samples(settings)
    if settings.enhancer:
        publish_enhancer(settings.utterance)


def find_page(name: str) -> Path:
    """Return the page that has a place for a comparison's tables; UserError if there is none."""
    part = f"results of {name}"
    for page in sorted(DOCS.glob("*.md")):
        if has_block(page, part):
            return page
    raise UserError(
        f"{DOCS}: no page has a part <!-- {part} -->; write that line and <!-- end of {part} --> where the tables "
        "should stand"
    )


def find_runs(name: str, data: str = "") -> list[Run]:
    """Return the tested runs of a sweep. data: the set they were tested on, if there are several."""
    folders = sorted(Path("runs").glob(f"{name}_*_seed*"))
    template = f"{name}_{{loss}}_seed{{seed}}"  # demo_tuned_MSE_seed0 is no run of demo
    folders = [f for f in folders if dataclasses.replace(read_config(f), name=template).run_name == f.name]
    if len(folders) < 2:
        raise UserError(
            f"runs/{name}_*_seed*: found {len(folders)}, expected the runs of tools.sweep --name {name}"
        )
    return [comparison.read_run(str(folder), data) for folder in folders]


def sort_labels(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs by label, in alphabetical order."""
    return comparison.label_runs(sorted(runs, key=lambda run: (run.settings["loss"], run.seed)))


def copy_runs(runs: Sequence[Run], folder: Path) -> None:
    """Copy the published files of runs; the folder is replaced as a whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as parent:
        new = Path(parent) / folder.name
        for run in runs:
            target = new / run.folder.name
            target.mkdir(parents=True)
            for name in COPIED:
                shutil.copyfile(run.folder / name, target / name)
            write_csv(target / "test" / "scores.csv", run.scores.round(PLACES).to_dict("records"))
            calls = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
            facts = {
                "steps": read_checkpoint(run.folder / "last.pt")["progress"]["step"],
                "item_samples": json.loads((Path(run.settings["data"]) / "dataset.json").read_text())["samples"],
                "calls": [{name: call[name] for name in PUBLIC} for call in calls],
            }
            write_text(target / "facts.json", json.dumps(facts, indent=1) + "\n")
        if (tuning := Path("results") / folder.name / TUNING).is_file():
            shutil.copyfile(tuning, new / TUNING)
        put_folder(new, folder)


# -- docs/results.md --


def results_text(scores: pd.DataFrame, verdict: Table, metrics: Sequence[str], rates: pd.DataFrame | None) -> str:
    """Return the tables of docs/results.md: scores, differences, spread over seeds, tuned rates."""
    means = [
        part
        for name in metrics
        for part in (f"#### {METRICS[name].title}", *_untitled(tables.score_tables(scores, name)))
    ]
    note = "95% confidence intervals; bold where p < 0.05 after the correction for the number of comparisons."
    parts = [verdict, tables.MARKS, summary_table(scores, metrics), *_folded("Over dB", means)]
    parts += [pair_table(scores, metrics), note, *tables.flagged(scores, report.SIGNAL)]
    if spread := tables.spread_tables(scores[[*scores.columns.difference(METRICS), *metrics]]):
        parts += _folded("Spread over seeds (± standard deviation)", _untitled(spread))
    if rates is not None:
        tuning = [*_untitled([tables.tuning_table(rates)]), *comparison.at_the_edge(rates)]
        parts += _folded("Learning rates, tuned for each loss", tuning)
    return tables.markdown(parts).rstrip("\n")


def conditions(labelled: Mapping[str, Sequence[Run]]) -> str:
    """Return a paragraph on network, training, time, machine and code."""
    runs = [run for group in labelled.values() for run in group]
    config = read_config(runs[0].folder)
    facts = pd.DataFrame([json.loads((run.folder / "facts.json").read_text(encoding="utf-8")) for run in runs])
    calls = list(facts["calls"].explode())
    hours = facts["steps"][0] * config.batch_size * facts["item_samples"][0] / SAMPLE_RATE / 3600
    minutes = [sum(row["seconds"] for row in read_history(run.folder)) / 60 for run in runs]
    losses = pd.Series({label: group[0].settings["learning_rate"] for label, group in labelled.items()})
    rates = [f"{rate:g} ({', '.join(own.index)})" for rate, own in losses.groupby(losses)]
    rate = (
        f"learning rate {config.learning_rate:g}"
        if len(rates) == 1
        else f"tuned learning rates {'; '.join(rates)}"
    )
    return (
        f"{describe_network(config)}; {_unique(facts['steps'])} steps with {config.batch_size} "
        f"utterances each in {config.epochs} epochs ({hours:.1f} hours of audio), Adam, {rate}, {config.schedule} "
        f"schedule, {config.precision}; seeds {_unique(run.seed for run in runs)}. A training took "
        f"{min(minutes):.1f} to {max(minutes):.1f} minutes, all {len(runs)} together {sum(minutes) / 60:.1f} "
        f"hours, each on {_unique(_hardware(call) for call in calls)}, with PyTorch "
        f"{_unique(call['packages'].get('torch') for call in calls)}; commit "
        f"{_unique(str(call['commit'])[:7] for call in calls)}."
    )


def describe_network(config: Config) -> str:
    """Return the network's name, number of weights and settings that differ from its defaults."""
    weights = sum(weight.numel() for weight in build_model(config).parameters())
    default = complete(Config(model=config.model)).network
    changed = {name: value for name, value in config.network.items() if value != default[name]}
    listed = ", ".join(f"`{name}` {str(value).strip('()')}" for name, value in changed.items())
    return f"{config.model} with {weights:,} weights" + (f" ({listed})" if listed else "")


def summary_table(scores: pd.DataFrame, metrics: Sequence[str]) -> Table:
    """Return means over all dB: a row a signal, a column a noise type and metric."""
    means = {}
    for noise_type, own in scores.groupby("noise_type", sort=False):
        for name in metrics:
            means[f"{noise_type}: {METRICS[name].title}"] = comparison.by_signal(own, name).mean()
    numbers = pd.DataFrame(means).rename_axis("mean over all SNRs")
    return tables.number_table(
        "", numbers, [METRICS[name].places for name in metrics] * (len(means) // len(metrics))
    )


def pair_table(scores: pd.DataFrame, metrics: Sequence[str]) -> Table:
    """Return differences over the whole grid: of losses from the baseline, of combinations from their base."""
    labels = [label for label in scores["signal"].unique() if label != "noisy"]
    parts = []
    for base in sorted(labels, key=lambda label: label != BASELINE):
        others = [label for label in labels if base in (BASELINE, label.partition("+")[0]) and label != base]
        if others:
            own = comparison.find_differences(scores[scores["signal"].isin([base, *others])], base, metrics)
            parts.append(own[own["noise_type"] == EVERYWHERE].assign(signal=own["signal"] + f" − {base}"))
    table = tables.difference_tables(pd.concat(parts))[0]
    return Table("", table.texts.rename_axis(index="difference, whole grid"), table.bold)


def _hardware(call: Mapping[str, Any]) -> str:
    if call["gpu"]:
        return call["gpu"]
    return f"{call['threads']} thread{'s' * (call['threads'] > 1)} of {call['cores']} cores ({call['cpu']})"


def _untitled(tables: Iterable[Table]) -> list[Table]:
    return [dataclasses.replace(table, title="") for table in tables]


def _folded(summary: str, parts: Iterable[str | Table]) -> list[str | Table]:
    return [f"<details><summary>{summary}</summary>", *parts, "</details>"]


def _unique(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in sorted(set(values)))


# -- Samples --


def publish_samples(settings: PublishSettings) -> None:
    """Write the listening page with its audio, and a figure of its spectrograms, in samples/published/."""
    labelled = sort_labels(find_runs(settings.samples, settings.samples_data))
    scores = comparison.join_scores(labelled)
    samples = collect_samples(report.samples_folders(labelled), scores, (settings.utterance,))
    samples = [sample for sample in samples if sample.cell[1] in SAMPLES_DB]
    if not samples:
        raise UserError(f"samples: found none of {settings.samples} at 0 or 5 dB, expected a test grid with one")
    SAMPLES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SAMPLES, prefix=".") as folder:
        report.report(
            Path(folder), "The losses, side by side", scores, BASELINE, comparison.metrics_of(scores), samples
        )
        put_folder(Path(folder) / "audio", SAMPLES / "audio")
        shutil.move(Path(folder) / "index.html", SAMPLES / "index.html")
    waveforms = [(name, read_wav(path) / 32768) for name, path in samples[-1].files.items()]  # unseen noise
    rows = [("", dict(waveforms[start : start + 4])) for start in range(0, len(waveforms), 4)]
    figures.save_figure(
        figures.spectrogram_figure(rows), SAMPLES, "spectrograms", ["png"], dpi=80
    )  # as wide as a README
    print(f"{SAMPLES}: {sum(len(sample.files) for sample in samples)} samples, index.html to listen to them")


def publish_enhancer(utterance: int) -> None:
    """Write noisy, enhanced and clean speech of the demo corpus, with spectrograms, in samples/published/."""
    ensure_demo_corpus()
    grid, folder, rows = PackedDataset(DEMO_DATA, "test"), SAMPLES / "enhancer", []
    cells = {number: grid.cell(number) for number in range(len(grid))}
    numbers = [n for n, (_, snr_db, found) in cells.items() if found == utterance and snr_db in SAMPLES_DB]
    if not numbers:
        raise UserError(f"utterance: found {utterance}, expected 0 to {grid.grid[-1] - 1}")
    folder.mkdir(parents=True, exist_ok=True)
    for number, noisy, clean, estimate in enhance(
        load_pretrained(), build_loader(Config(), "test", items=numbers)
    ):
        noise_type, snr_db, _ = cells[number]
        waveforms = {"noisy": noisy, "enhanced": estimate, "clean": clean}
        rows.append((f"{noise_type} noise, {snr_db:g} dB", waveforms))
        for name, waveform in waveforms.items():
            path = folder / f"{noise_type}_{snr_db:g}dB_{name}.flac"
            soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
    figures.save_figure(figures.spectrogram_figure(rows), folder, "spectrograms", ["png"], dpi=80)
    print(f"{folder}: samples of the packaged network, and their spectrograms")


def main() -> None:
    publish(parse_arguments(PublishSettings, __doc__))


if __name__ == "__main__":
    run_command(main)
