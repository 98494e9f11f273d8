"""Score recordings enhanced by any system against the clean ones: a row for each file, means with intervals.

    python -m tools.score clean/ enhanced/ noisy/   # folders, or files; noisy may be left out
    python -m tools.score pairs.csv                 # columns clean, enhanced and, if there is one, noisy

Files match by name, in any format and at any rate (scored at 16 kHz). Writes results/<name>/. A file that cannot
be scored does not stop the others; it is named at the end, and the exit code is 1.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro
from tqdm import tqdm

from config import FolderName
from tools.common.command_line import parse_arguments, run_command
from tools.common.files import write_csv, write_text
from tools.common.processes import ProcessPool
from tools.reports.comparison import per_utterance
from tools.reports.significance import confidence_interval
from tools.reports.tables import NAMED, Table, about_words, flagged, markdown, terminal
from tools.scoring.recordings import find_pairs, read_transcripts, score_files
from tools.scoring.scores import METRICS, installed_metrics
from tools.scoring.suspect import find_suspect, without_suspect


@dataclass(frozen=True)
class ScoreSettings:
    """What to score, and how."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """CLEAN ENHANCED [NOISY]: folders or files; or one CSV that lists them."""
    metrics: tuple[str, ...] = ("standard",)
    """As for test.py: standard, dnsmos, distillmos, all, or single scores."""
    name: FolderName = "scores"
    """The results go to results/<name>/."""
    transcripts: Path | None = None
    """For word errors (wer): a CSV with the columns file (as in scores.csv) and text. Else they are counted
    against what is recognised in the clean speech."""
    keep_delay: bool = False
    """Score delayed files as they are; else a delay of up to 0.1 s is removed. It is reported in any case."""
    suspect: Annotated[Literal["keep", "leave-out"], tyro.conf.arg(aliases=["--flagged"])] = "keep"
    """Whether to keep suspect PESQ values (contradicted by STOI and narrow-band PESQ), or to leave them out; they
    are listed in any case."""
    processes: Annotated[int, tyro.conf.arg(aliases=["--workers"])] = 0
    """Processes; 0 for one a core."""


def score_recordings(settings: ScoreSettings) -> list[str]:
    """Write results/<name>/ and print the report; return a line for each file that could not be scored."""
    metrics = installed_metrics(settings.metrics)
    pairs, failures = find_pairs(settings.paths)
    if settings.transcripts:
        texts = read_transcripts(settings.transcripts, {pair.name: pair.name for pair in pairs})
        pairs = [pair._replace(text=texts[pair.name]) for pair in pairs]
    rows = []
    with ProcessPool(settings.processes) as pool:
        results = pool.starmap(score_files, ((pair, metrics, not settings.keep_delay) for pair in pairs))
        for scored, failed in tqdm(results, "files", len(pairs), leave=False, disable=None):
            rows += scored
            failures += failed
    if not rows:
        return failures
    scores = pd.DataFrame(rows)
    scores["suspect"] = find_suspect(scores)
    folder = Path("results") / settings.name
    write_csv(folder / "scores.csv", scores.to_dict("records"))
    used = without_suspect(scores) if settings.suspect == "leave-out" else scores
    parts = [
        f"# {settings.name}",
        f"{', '.join(map(str, settings.paths))}: mean ± standard deviation over files [95% interval of the mean].",
        mean_table(used, metrics),
        *(describe(signal, own, not settings.keep_delay) for signal, own in scores.groupby("signal", sort=False)),
        *about_words(scores, ["file"]),
        *flagged(scores, "{file}, {signal}"),
    ]
    write_text(folder / "tables.md", markdown(parts))
    print(terminal(parts))
    print(f"The scores of each file are in {folder / 'scores.csv'}, this report in {folder / 'tables.md'}")
    return failures


def mean_table(scores: pd.DataFrame, metrics: Sequence[str]) -> Table:
    """Return a row a metric: mean of each signal and of their difference, and the number of files that have it."""
    rows = {}
    for name in metrics:
        metric = METRICS[name]
        values = scores.pivot(index="file", columns="signal", values=name).sort_index(axis=1, ascending=False)
        values = per_utterance(values, scores, name)
        ranges = dict.fromkeys(values, (metric.low, metric.high))
        if len(ranges) > 1:
            values["enhanced − noisy"] = values["enhanced"] - values["noisy"]
            ranges["enhanced − noisy"] = (metric.low - metric.high, metric.high - metric.low)
        texts = {column: mean_text(values[column], metric.places, *bounds) for column, bounds in ranges.items()}
        rows[metric.title] = texts | {"files": str(len(values))}
    return Table("", pd.DataFrame.from_dict(rows, orient="index"))


def mean_text(values: pd.Series, places: int, low: float, high: float) -> str:
    """Return the mean with standard deviation and interval, which stays between low and high."""
    if len(values) < 2:
        return f"{values.mean():.{places}f}" if len(values) else "–"
    start, end = (min(max(bound, low), high) for bound in confidence_interval(values))
    return f"{values.mean():.{places}f} ± {values.std():.{places}f} [{start:.{places}f}, {end:.{places}f}]"


def describe(signal: str, scores: pd.DataFrame, aligned: bool) -> str:
    """Return a paragraph on what the scores do not show: gain, polarity, delay, clipping."""
    delay, gain = scores.loc[scores["delay_ms"] != 0, "delay_ms"].dropna(), scores["gain_db"].dropna()
    lost = scores.loc[scores["delay_ms"].isna(), "file"]
    parts = [f"{len(scores)} files, {scores['seconds'].sum() / 60:.1f} minutes"]
    if len(gain):
        parts.append(f"gain of the speech {gain.mean():+.1f} dB ({gain.min():+.1f} to {gain.max():+.1f})")
    parts.append(f"{(scores['polarity'] < 0).sum()} inverted")
    if len(delay):
        treatment = "compensated" if aligned else "kept"
        parts.append(f"{len(delay)} delayed by {delay.min():.3g} to {delay.max():.3g} ms ({treatment})")
    if len(lost):
        parts.append(f"no alignment found within 100 ms in {len(lost)} ({', '.join(lost[:NAMED])})")
    parts.append(f"{(scores['clipped'] > 0).sum()} clipped")
    parts += [f"{count} {note}" for note, count in scores["note"].value_counts().items() if note]
    return f"{signal}: {', '.join(parts)}."


def main() -> None:
    failures = score_recordings(parse_arguments(ScoreSettings, __doc__))
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
