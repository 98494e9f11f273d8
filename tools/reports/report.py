"""The report on a table of scores: tables, sentences, figures and a page, for one run or a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from config import FolderName
from tools.common.errors import UserError
from tools.common.files import write_csv, write_text
from tools.common.run_folder import find_run
from tools.reports import comparison, figures, page, tables
from tools.reports.comparison import EVERYWHERE, MAIN, Run
from tools.reports.tables import Table
from tools.scoring.scores import METRICS, choose_metrics
from tools.scoring.suspect import without_suspect

SUMMARY = (*MAIN, "dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "distillmos", "wer")
PAPER = ("pesq", "stoi")
SIGNAL = "{signal}, seed {seed}, {noise_type} noise, {snr_db:g} dB, utterance {utterance}"


def report(
    folder: Path,
    title: str,
    scores: pd.DataFrame,
    baseline: str,
    metrics: Sequence[str],
    samples: Sequence[page.Sample] = (),
    further: Sequence[Table] = (),
    notes: Sequence[str] = (),
    paper: bool = False,
) -> None:
    """Write tables.md, tables.tex, differences.csv, curves and index.html to a folder; print the main tables.

    scores: columns of scores.csv, in which signal is noisy or what is compared with the baseline, and seed.
    samples: to listen to. further, notes: tables and sentences to show below the first table.
    paper: write paper.tex and print its tables only.
    """
    differences = comparison.find_differences(scores, baseline, metrics)
    summary = [name for name in SUMMARY if name in metrics] or list(metrics)
    verdict = tables.verdict_table(scores, differences, baseline, summary)
    words = tables.about_words(scores) if "wer" in metrics else []
    sentences = [*notes, *how_to_read(scores, differences), *words, *trade_offs(differences)]
    if baseline != "noisy":
        sentences += trade_offs(comparison.find_differences(scores, "noisy", summary))
    sentences += [*tables.flagged(scores, SIGNAL), *gain_and_polarity(scores)]
    marks = [tables.MARKS] if differences["p"].notna().any() else []
    head = [f"# {title}", verdict, *marks, *further, *sentences]
    means = {name: tables.score_tables(scores, name) for name in metrics}
    every = [table for own in means.values() for table in own]
    main = [table for name in summary if name in MAIN for table in means[name]] or every
    gaps = tables.left_out(scores, metrics)
    details = [*tables.difference_tables(differences), *tables.spread_tables(scores)]

    write_csv(folder / "differences.csv", differences.to_dict("records"))
    write_text(folder / "tables.md", tables.markdown([*head, *every, *gaps, *details]))
    write_text(folder / "tables.tex", "\n".join(table.latex() for table in every))
    figures.save_figure(figures.score_curves(scores, metrics), folder, "curves")
    content = {"title": title, "verdict": verdict, "marks": "".join(marks), "further": further}
    content |= {"sentences": [*sentences, *gaps], "means": every, "details": details}
    page.write_page(folder, scores, samples, folder / "curves.png", content)
    where = f"All tables are in {folder / 'tables.md'}; open {folder / 'index.html'} in a browser."
    shown = [*head, *main, *gaps, where]
    if paper:
        shown = [tables.paper_table(scores, name) for name in PAPER if name in metrics]
        write_text(folder / "paper.tex", "\n".join(table.latex() for table in shown))
    print(tables.terminal(shown))


@dataclass(frozen=True)
class CompareSettings:
    """Runs to compare, the baseline, and what to write."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Tested runs: names in runs/, or folders."""
    baseline: str = ""
    """The run that the others are compared with; by default the first one named."""
    name: FolderName = "comparison"
    """The results go to results/<name>/."""
    metrics: tuple[str, ...] = ("all", "wer")
    """Scores to compare, of those that all runs have; names as for test.py."""
    suspect: Annotated[Literal["keep", "leave-out"], tyro.conf.arg(aliases=["--flagged"])] = "keep"
    """Keep suspect PESQ values (contradicted by STOI and narrow-band PESQ), or leave them out for all signals;
    they are listed in any case."""
    data: str = ""
    """The test set to compare on, if the runs were tested on several; by default that of the training."""
    utterances: tuple[int, ...] = (0,)
    """Utterances to listen to on the page, of each noise type and dB; test.py must have saved them (--samples)."""
    tuning: Path | None = None
    """The tuning.csv of tools.sweep --tune, to show."""
    paper: bool = False
    """Print the paper's table, PESQ and STOI of each loss and dB in seen and unseen noise, and write paper.tex."""
    listening_test: bool = False
    """Also write a listening test of these utterances for webMUSHRA (BS.1534)."""


def compare(settings: CompareSettings) -> Path:
    """Write results/<name>/ and return it. Raises UserError if the runs cannot be compared."""
    labelled = comparison.label_runs([comparison.read_run(name, settings.data) for name in settings.runs])
    if len(labelled) < 2:
        raise UserError(f"runs: found {', '.join(labelled) or 'none'}, expected two or more losses or settings")
    baseline = find_baseline(labelled, settings.baseline)
    scores = comparison.join_scores(labelled)
    chosen, shared = choose_metrics(settings.metrics), comparison.metrics_of(scores)
    metrics = [name for name in shared if name in chosen]
    if not metrics:
        raise UserError(f"metrics: the runs share {', '.join(shared) or 'none'}; test them again, or choose these")
    samples = page.collect_samples(samples_folders(labelled), scores, settings.utterances)
    further, notes = [tables.tuning_table(pd.read_csv(settings.tuning))] if settings.tuning else [], []
    if not samples:
        notes.append("There are no samples to listen to; `test.py --samples 1` writes some.")
    if settings.suspect == "leave-out":
        scores = without_suspect(scores)
    folder = Path("results") / settings.name
    write_csv(folder / "scores.csv", scores.to_dict("records"))
    runs = [run for group in labelled.values() for run in group]
    partial = [name for name in chosen if name not in shared and any(name in run.scores for run in runs)]
    if partial:
        titles = ", ".join(METRICS[name].title for name in partial)
        notes.append(f"Left out, as not all runs have them: {titles}.")
    notes += comparison.rank_stability(labelled, scores, metrics)
    report(folder, settings.name, scores, baseline, metrics, samples, further, notes, settings.paper)
    if settings.listening_test:
        page.write_webmushra(folder / "webmushra", settings.name, samples)
    return folder


def find_baseline(labelled: Mapping[str, Sequence[Run]], name: str) -> str:
    """Return the label of the named run, or the first label without a name."""
    for label, group in labelled.items():
        if name in ("", label) or find_run(name).absolute() in [run.folder.absolute() for run in group]:
            return label
    raise UserError(f"baseline: found {name}, expected one of the runs that are compared")


def samples_folders(labelled: Mapping[str, Sequence[Run]]) -> dict[str, Path]:
    """Return samples/<name>/<data> of the first run of each label."""
    folders = {}
    for label, (run, *_) in labelled.items():
        run_dir = run.folder.absolute()
        folders[label] = run_dir.parents[1] / "samples" / run_dir.name / run.data
    return folders


def how_to_read(scores: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """Return sentences on what was drawn, and on what intervals and marks mean."""
    of_labels = scores[scores["signal"] != "noisy"].groupby("signal", sort=False)["seed"].nunique()
    several = ", ".join(f"{label}: {count}" for label, count in of_labels.items() if count > 1)
    seeds = f"seeds {several}" if several else "one seed"
    drawn = comparison.drawn_with(scores)
    counts = [f"{drawn[way].nunique()} {way}" for way in drawn]
    grid = f"{len(drawn)} noisy utterances with {' and '.join(counts)}; {seeds}."
    if drawn.iloc[:, 0].nunique() < comparison.FEW:
        return [
            grid,
            f"Attention: {counts[0]} are too few for intervals and marks; test {comparison.FEW} or more.",
        ]
    text = (
        "Means over utterances, the best of each column marked. Differences are paired, with 95% intervals from a "
        f"bootstrap over {' and '.join(drawn)}, marked if p < 0.05 after correction for the number of comparisons "
        "(Benjamini-Hochberg). About equal: not different, and the 90% interval within ±0.05 of PESQ or an "
        "opinion, ±0.01 of STOI or ESTOI, ±0.25 dB (two one-sided tests). They hold for these trained networks."
    )
    if "seeds_pooled" in differences:
        apart = differences.loc[differences["seeds_pooled"].eq(False), "metric"].unique()
        text += " Intervals over seeds, whose variance is pooled over the losses, hold for the losses."
        if len(apart):
            titles = ", ".join(METRICS[name].title for name in apart)
            text += f" In {titles} it differs (Bartlett's test) and is not pooled."
    return [grid, text]


def trade_offs(differences: pd.DataFrame) -> list[str]:
    """Return a warning for each signal that is better in one main metric and worse in another.

    What holds for the whole grid is not repeated for noise types.
    """
    sentences, known = [], set()
    main = differences[differences["metric"].isin(MAIN)]
    for (signal, noise_type, baseline), rows in main.groupby(["signal", "noise_type", "baseline"], sort=False):
        own = comparison.own_metrics(signal.partition(" (")[0])
        changes = {"better": [], "worse": []}
        for row in rows[rows["verdict"].isin(list(changes))].to_dict("records"):
            metric, trained = METRICS[row["metric"]], ", which it is trained on" * (row["metric"] in own)
            changes[row["verdict"]].append(f"{metric.title} ({row['difference']:+.{metric.places}f}{trained})")
        if all(changes.values()) and signal not in known:
            known |= {signal} if noise_type == EVERYWHERE else set()
            where = "" if noise_type == EVERYWHERE else f" in {noise_type} noise"
            better, worse = (", ".join(parts) for parts in changes.values())
            sentences.append(
                f"Attention: {signal} against {baseline}{where}: better in {better}, worse in {worse}."
            )
    return sentences


def gain_and_polarity(scores: pd.DataFrame) -> list[str]:
    """Return a sentence on what SI-SNR does not see, if it was measured."""
    if "gain_db" not in scores:
        return []
    enhanced = scores[scores["signal"] != "noisy"]
    gain, inverted = enhanced["gain_db"], (enhanced["polarity"] < 0).sum()
    return [
        f"Gain of the enhanced speech {gain.mean():+.1f} dB ({gain.min():+.1f} to {gain.max():+.1f}), inverted in "
        f"{inverted} of {gain.count()} utterances."
    ]
