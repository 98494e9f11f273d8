"""Publish comparisons: the tables of docs/ and README.md, and the data behind them.

    python -m tools.publish quick      # from the runs of tools.sweep --name quick
    python -m tools.publish study --systems RNNoise  # with a system that was tested by test.py --outputs
    python -m tools.publish            # tables and figures again, from what was published before
    python -m tools.publish --samples pretrained --utterance 7  # also a listening page, of a run or a comparison

results/published/<name>/ keeps a comparison: scores.csv.xz with an utterance a row and a column a score and run,
runs.jsonl with the settings and the environment of each run, histories.csv, and figures; with --networks also
networks/, where one run of each loss has its best checkpoint: copied to runs/ it can be tested again. Runs that
are kept already stay, so that a comparison may be published as its runs finish. A page of docs/ needs a place for
its tables, between the lines <!-- results of NAME --> and <!-- end of results of NAME -->.
samples/published/<name>/ has samples at 5 dB, of a single run at 0 dB too, and a page to listen to them.
"""

import contextlib
import dataclasses
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from config import DEMO_DATA, SAMPLE_RATE, Config
from models import build_model, complete, read_checkpoint, read_settings
from tools.common.audio import read_wav
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import has_block, put_folder, write_block, write_csv, write_text
from tools.common.run_folder import is_tested, read_config, read_history
from tools.reports import comparison, figures, report, tables
from tools.reports.comparison import DRAWN, EVERYWHERE, UTTERANCE, Run, experiment, read_run
from tools.reports.page import collect_samples
from tools.reports.tables import Table
from tools.scoring.scores import METRICS

RESULTS, SAMPLES = Path("results/published"), Path("samples/published")
DOCS, README = Path("docs"), Path("README.md")
SCORES, TUNING, NETWORKS = "scores.csv.xz", "tuning.csv", "networks"
NOISY, ENHANCED = comparison.SIGNALS
PLACES = 4  # decimal places of the kept scores
DIGITS = "%.6g"  # significant digits of the kept tables: histories come with seventeen
# Other entries of environment.json are private details of the machine.
PUBLIC = ("started", "python", "packages", "device", "gpu", "cpu", "cores", "threads", "commit", "changed")
SAMPLES_DB = (0.0, 5.0)
BASELINE = "SI-SNR"
SHOWN = ("pesq", "stoi", "estoi", "si_sdr", "dnsmos_ovrl", "distillmos", "wer")


@dataclasses.dataclass(frozen=True)
class PublishSettings:
    """What to publish."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Comparisons whose runs to copy: those called <name>_<loss>_seed<seed>."""
    systems: tuple[str, ...] = ()
    """Tested outputs of other systems (test.py --outputs) to show beside the runs of the one comparison named."""
    networks: bool = False
    """Keep the network of each loss too, of the lowest seed at hand unless one is kept already."""
    samples: tuple[str, ...] = ()
    """Comparisons and tested runs whose samples to publish too."""
    samples_data: str = DEMO_DATA
    """The test set of these samples, which must have a free licence."""
    utterance: int = 0
    """The utterance to listen to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedRun(Run):
    """A tested run with its training: an epoch a row of the history; facts on steps, machine and code."""

    config: Config
    history: pd.DataFrame
    facts: Mapping[str, Any]


def publish(settings: PublishSettings) -> None:
    """Keep the runs, then write figures, tables and samples; UserError if something is missing."""
    if settings.systems and len(settings.names) != 1:
        raise UserError(f"systems: found with {len(settings.names)} comparisons, expected one to show them in")
    for name in settings.names:
        find_page(name)
    for name in settings.names:
        folder = RESULTS / name
        kept = {run.folder.name: run for run in read_kept(folder)} if folder.is_dir() else {}
        runs = [read_training(run, kept.get(run.folder.name)) for run in find_runs(name)]
        runs += [read_run(system, Path(runs[0].settings["data"]).name) for system in settings.systems]
        kept |= {run.folder.name: run for run in runs}
        comparison.join_scores({"": list(kept.values())})  # raises UserError for other data
        keep_runs(name, sorted(kept.values(), key=lambda run: (run.settings["loss"], run.seed)))
        if settings.networks:
            keep_networks(runs, folder / NETWORKS)
    answers = {}
    for folder in sorted(path.parent for path in RESULTS.glob("[!.]*/runs.jsonl")):
        answers |= write_tables(folder)
    if answers:
        figures.save_figure(figures.difference_figure(answers), RESULTS, "differences", ["png"])
    for name in settings.samples:
        publish_samples(name, settings)


def write_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Write tables and figures of a kept comparison; return its differences by name if README.md shows it."""
    runs = read_kept(folder)
    trained = comparison.label_runs([run for run in runs if isinstance(run, TrainedRun)])
    systems = comparison.label_runs([run for run in runs if not isinstance(run, TrainedRun)])
    scores = comparison.join_scores(trained | systems)
    known = {name: comparison.by_signal(scores, name).notna() for name in SHOWN if name in scores}
    metrics = [name for name, values in known.items() if values.any(axis=None)]
    if len(metrics) < len(known):
        print(f"{folder}: without {', '.join(known.keys() - metrics)}, which not all signals have")
    histories = {label: [run.history for run in runs] for label, runs in trained.items()}
    figures.save_figure(figures.score_curves(scores, metrics), folder, "curves", ["png"])
    figures.save_figure(figures.training_curves(histories), folder, "training", ["png"])
    differences = comparison.find_differences(scores, BASELINE, metrics)
    verdict = tables.verdict_table(scores, differences, BASELINE, metrics)
    rates = pd.read_csv(folder / TUNING) if (folder / TUNING).is_file() else None
    page = find_page(folder.name)
    text = "\n\n".join([conditions(trained), results_text(scores, verdict, metrics, rates)])
    write_block(page, f"results of {folder.name}", text)
    print(f"{folder}: scores and figures; {page}: tables")
    if not has_block(README, summary := f"summary of {folder.name}"):
        return {}
    write_block(README, summary, verdict.markdown())
    return {f"{trained[BASELINE][0].settings['model']} ({folder.name})": differences}


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
    """Return the tested runs of a sweep, by loss and seed; data: the set that they were tested on."""
    folders = sorted(Path("runs").glob(f"{name}_*_seed*"))
    template = f"{name}_{{loss}}_seed{{seed}}"  # demo_tuned_MSE_seed0 is no run of demo
    configs = {f: read_config(f) for f in folders}
    folders = [f for f, c in configs.items() if dataclasses.replace(c, name=template).run_name == f.name]
    tested = [f for f in folders if is_tested(f, data or configs[f].data)]
    if not tested:
        raise UserError(f"runs/{name}_*_seed*: found none tested, expected runs of tools.sweep --name {name}")
    if untested := [f.name for f in folders if f not in tested]:
        print(f"left out, as they are not tested: {', '.join(untested)}")
    runs = [read_run(str(folder), data) for folder in tested]
    return sorted(runs, key=lambda run: (run.settings["loss"], run.seed))


def read_training(run: Run, kept: Run | None = None) -> TrainedRun:
    """Return a run with what is published of its training; of a kept network tested again, with what is kept."""
    if isinstance(kept, TrainedRun) and not (run.folder / "last.pt").is_file():
        key = [*UTTERANCE, "signal"]
        again = run.scores.set_index(key)
        scores = again.combine_first(kept.scores.set_index(key)).reindex(again.index)  # combine_first sorts
        return dataclasses.replace(kept, folder=run.folder, scores=scores.reset_index())
    calls = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    facts = {
        "steps": read_checkpoint(run.folder / "last.pt")["progress"]["step"],
        "item_samples": json.loads((Path(run.settings["data"]) / "dataset.json").read_text())["samples"],
        "calls": [{name: call[name] for name in PUBLIC} for call in calls],
    }
    history = pd.DataFrame(read_history(run.folder))
    return TrainedRun(**vars(run), config=read_config(run.folder), history=history, facts=facts)


def keep_runs(name: str, runs: Sequence[Run]) -> None:
    """Write the files of a comparison, whose folder is replaced as a whole; its other files and rates stay."""
    trained = [run for run in runs if isinstance(run, TrainedRun)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS, prefix=".") as parent:
        new = Path(parent) / name
        new.mkdir()
        if (RESULTS / name).is_dir():
            shutil.copytree(RESULTS / name, new, dirs_exist_ok=True)
        scores = pd.concat([run.scores.round(PLACES).assign(run=run.folder.name) for run in runs])
        pack_scores(scores).to_csv(new / SCORES, float_format=DIGITS)
        histories = pd.concat([run.history.assign(run=run.folder.name) for run in trained])
        histories = histories[["run", *histories.columns.drop("run")]]
        histories.to_csv(new / "histories.csv", index=False, float_format=DIGITS)
        lines = [{"run": run.folder.name, "config": run.config.to_dict(), "facts": run.facts} for run in trained]
        write_text(new / "runs.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        paths = RESULTS / name / TUNING, Path("results") / name / TUNING
        if tuned := [pd.read_csv(path) for path in paths if path.is_file()]:
            again = set(tuned[-1]["loss"]) if len(tuned) > 1 else ()
            rates = pd.concat([tuned[0][~tuned[0]["loss"].isin(again)], *tuned[1:]])
            write_csv(new / TUNING, rates.to_dict("records"))
        put_folder(new, RESULTS / name)


def pack_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a row an utterance and a column a score and run, in two thirds of the space of a row a run.

    Scores of the noisy speech, and what was drawn, are the same in all runs, and stand in columns of their own.
    """
    noisy = scores["signal"] == NOISY
    once = comparison.first_known(scores[noisy]).assign(run=NOISY)
    folders = once["noise"].str.startswith("/")  # of this machine
    once.loc[folders, "noise"] = ["/".join(Path(n).parts[-2:]) for n in once.loc[folders, "noise"]]
    own = scores[~noisy].drop(columns=list(DRAWN))
    columns = pd.concat([once, own]).drop(columns=["signal", "suspect"]).replace("", None)
    packed = columns.pivot(index=UTTERANCE, columns="run").dropna(axis=1, how="all")
    return packed.reindex(once.set_index(UTTERANCE).index)  # pivot sorts


def read_packed(path: Path) -> pd.DataFrame:
    """Return the scores that were packed, with the column run, noisy for the noisy speech."""
    packed = pd.read_csv(path, header=[0, 1], index_col=[0, 1, 2], dtype=str, keep_default_na=False)
    texts = packed.stack(level="run", future_stack=True).fillna("").reset_index()
    texts["signal"] = texts["run"].where(texts["run"] == NOISY, ENHANCED)
    return comparison.parse_scores(texts, path).assign(run=texts["run"])


def keep_networks(runs: Sequence[Run], folder: Path) -> None:
    """Copy checkpoint and config of the first run of each loss that has none in the folder, and of those in it."""
    for run in runs:
        new, kept = folder / run.folder.name, folder.glob(run.folder.name.rpartition("_seed")[0] + "_seed*")
        if isinstance(run, TrainedRun) and (new.exists() or not list(kept)):
            new.mkdir(parents=True, exist_ok=True)
            for file in ("best.pt", "config.json"):
                shutil.copy(run.folder / file, new)


def read_kept(folder: Path) -> list[Run]:
    """Return the runs of a published comparison, then the other systems beside them."""
    scores, histories = read_packed(folder / SCORES), pd.read_csv(folder / "histories.csv")
    noisy, runs = scores["run"] == NOISY, []
    drawn = scores[noisy].set_index(UTTERANCE)[list(DRAWN)]
    names = scores["run"].where(~noisy)
    scores = scores.drop(columns=[*DRAWN, "run"]).join(drawn, on=UTTERANCE)
    rows = {name: scores[(names == name) | noisy] for name in names.dropna().unique()}
    for line in (folder / "runs.jsonl").read_text(encoding="utf-8").splitlines():
        kept = json.loads(line)
        config, own = read_settings(kept["config"]), histories[histories["run"] == kept["run"]]
        run = Run(folder / kept["run"], experiment(config), config.seed, rows.pop(kept["run"]))
        history = own.drop(columns="run").dropna(axis=1, how="all")
        runs.append(TrainedRun(**vars(run), config=config, history=history, facts=kept["facts"]))
    return runs + [Run(folder / name, {"loss": name}, 0, own) for name, own in rows.items()]


# -- docs/results.md --


def results_text(scores: pd.DataFrame, verdict: Table, metrics: Sequence[str], rates: pd.DataFrame | None) -> str:
    """Return the tables of docs/results.md: scores, differences, spread over seeds, tuned rates."""
    means = [
        part
        for name in metrics
        for part in (f"#### {METRICS[name].title}", *_untitled(tables.score_tables(scores, name)))
    ]
    words = tables.about_words(scores) if "wer" in metrics else []
    notes = [*words, *tables.left_out(scores, metrics), *tables.flagged(scores, report.SIGNAL)]
    note = "95% confidence intervals; bold where p < 0.05 after the correction for the number of comparisons."
    parts = [verdict, tables.MARKS, *_folded("Over dB", means), pair_table(scores, metrics), note, *notes]
    if spread := tables.spread_tables(scores[[*scores.columns.difference(METRICS), *metrics]]):
        parts += _folded("Spread over seeds (± standard deviation)", _untitled(spread))
    if rates is not None:
        parts += _folded("Learning rates, tuned for each loss", _untitled([tables.tuning_table(rates)]))
    return tables.markdown(parts).rstrip("\n")


def conditions(labelled: Mapping[str, Sequence[TrainedRun]]) -> str:
    """Return a paragraph on network, training, time, machine and code."""
    runs = [run for group in labelled.values() for run in group]
    config, facts = runs[0].config, pd.DataFrame([run.facts for run in runs])
    calls = list(facts["calls"].explode())
    hours = facts["steps"][0] * config.batch_size * facts["item_samples"][0] / SAMPLE_RATE / 3600
    minutes = [run.history["seconds"].sum() / 60 for run in runs]
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


def pair_table(scores: pd.DataFrame, metrics: Sequence[str]) -> Table:
    """Return differences over the whole grid: of losses from the baseline, of combinations from their base."""
    labels = [label for label in scores["signal"].unique() if label != "noisy"]
    bases = {label: label.partition("+")[0].rpartition("*")[2] for label in labels}  # without their weights
    parts = []
    for base in sorted(labels, key=lambda label: label != BASELINE):
        others = [label for label in labels if base in (BASELINE, bases[label]) and label != base]
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


def publish_samples(name: str, settings: PublishSettings) -> None:
    """Write samples, a page to listen to them, and a figure of their spectrograms, in samples/published/<name>/.

    name: a comparison, or a tested run.
    """
    is_run = (Path("runs") / name).is_dir()
    runs = [read_run(name, settings.samples_data)] if is_run else find_runs(name, settings.samples_data)
    labelled = {name: runs} if is_run else comparison.label_runs(runs)
    scores = comparison.join_scores(labelled)
    samples = collect_samples(report.samples_folders(labelled), scores, (settings.utterance,))
    levels = SAMPLES_DB if is_run else SAMPLES_DB[-1:]  # a comparison has many signals
    samples = [sample for sample in samples if sample.cell[1] in levels]
    if not samples:
        raise UserError(f"samples: found none of {name} at 5 dB, expected a test grid with it")
    folder, baseline = SAMPLES / name, "noisy" if is_run else BASELINE
    SAMPLES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SAMPLES, prefix=".") as parent:
        new = Path(parent) / name
        title = f"{name} on {Path(settings.samples_data).name}"
        with contextlib.redirect_stdout(io.StringIO()):  # it names the temporary folder
            report.report(new, title, scores, baseline, comparison.metrics_of(scores), samples)
        for path in new.iterdir():
            if path.name not in ("audio", "index.html"):
                path.unlink()
        # Of the last sample, in unseen noise; four signals a row.
        waveforms = [(signal, read_wav(path) / 32768) for signal, path in samples[-1].files.items()]
        rows = [("", dict(waveforms[start : start + 4])) for start in range(0, len(waveforms), 4)]
        figure = figures.spectrogram_figure(rows)
        figures.save_figure(figure, new, "spectrograms", ["png"], dpi=80)  # as wide as a README
        put_folder(new, folder)
    print(f"{folder}: {sum(len(sample.files) for sample in samples)} samples, index.html to listen to them")


def main() -> None:
    publish(parse_arguments(PublishSettings, __doc__))


if __name__ == "__main__":
    run_command(main)
