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

import numpy as np
import pandas as pd
import tyro
from tqdm import tqdm

from config import FolderName
from tools.common.command_line import parse_arguments, run_command
from tools.common.files import write_csv, write_text
from tools.common.processes import ProcessPool
from tools.reports.significance import confidence_interval
from tools.reports.tables import TITLES, listed, markdown_table, plain_text
from tools.scoring.alarm import CONTRADICTED, leave_out
from tools.scoring.recordings import find_trios, score_trio
from tools.scoring.scores import choose_scores


@dataclass(frozen=True)
class ScoreSettings:
    """What to score, and how."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """CLEAN ENHANCED [NOISY]: folders or files; or one CSV that lists them."""
    metrics: tuple[str, ...] = ("standard",)
    """As for test.py: standard, dnsmos, distillmos, all, or single scores."""
    name: FolderName = "scores"
    """The results go to results/<name>/."""
    keep_delay: bool = False
    """Score delayed files as they are; else a delay of up to 0.1 s is removed. It is reported in any case."""
    flagged: Literal["keep", "leave-out"] = "keep"
    """Whether to keep a PESQ that the other scores contradict, or to leave it out; it is listed in any case."""
    workers: int = 0
    """Processes; 0 for one a core."""


def score_recordings(settings: ScoreSettings) -> list[str]:
    """Write results/<name>/ and print the report; return a line for each file that could not be scored."""
    metrics = choose_scores(settings.metrics)
    trios, failures = find_trios(settings.paths)
    rows = []
    with ProcessPool(settings.workers) as pool:
        results = pool.starmap(score_trio, ((trio, metrics, not settings.keep_delay) for trio in trios))
        for scored, failed in tqdm(results, "files", len(trios), leave=False, disable=None):
            rows += scored
            failures += failed
    if not rows:
        return failures
    report = describe(settings, rows, metrics)
    folder = Path("results") / settings.name
    write_csv(folder / "scores.csv", rows)
    write_text(folder / "tables.md", report)
    print(plain_text(report))
    print(f"The scores of each file are in {folder / 'scores.csv'}, this report in {folder / 'tables.md'}")
    return failures


def describe(settings: ScoreSettings, rows: list[dict], metrics: Sequence[str]) -> str:
    """Return the report: means, checks, contradicted and missing scores."""
    left_out = settings.flagged == "leave-out"
    scores = pd.DataFrame(leave_out(rows) if left_out else rows)
    signals = [name for name in ("noisy", "enhanced") if name in set(scores["signal"])]
    cells = {TITLES[name][0]: mean_cells(scores, name, signals) for name in metrics}
    columns = [*signals, *(["enhanced − noisy"] if len(signals) > 1 else []), "files"]
    parts = [
        f"# {settings.name}",
        f"{', '.join(map(str, settings.paths))}: mean ± standard deviation over files [95% interval of the mean].",
        markdown_table("", columns, cells),
        *(checks(scores[scores["signal"] == name], name, not settings.keep_delay) for name in signals),
        *listed(CONTRADICTED + (", left out above" if left_out else ""), rows, "alarm", "{file}, {signal}"),
        *listed("Without a score", rows, "missing", "{file}, {signal}"),
    ]
    return "\n\n".join(parts) + "\n"


def mean_cells(scores: pd.DataFrame, name: str, signals: Sequence[str]) -> list[str]:
    """Return a score's cells: each signal, their difference, and the number of files with all of them."""
    table = scores.pivot(index="file", columns="signal", values=name).reindex(columns=signals).dropna()
    values = [table[signal] for signal in signals]
    if len(signals) > 1:
        values.append(table["enhanced"] - table["noisy"])
    places = TITLES[name][1]
    return [*(_with_interval(column.to_numpy(), places) for column in values), str(len(table))]


def checks(scores: pd.DataFrame, signal: str, aligned: bool) -> str:
    """Return a paragraph on what the scores do not show: gain, polarity, delay, clipping."""
    late, clipped = scores.loc[scores["delay_ms"] != 0, "delay_ms"], int((scores["clipped"] > 0).sum())
    gain, inverted = scores["gain_db"].dropna(), int((scores["polarity"] < 0).sum())
    parts = [f"{len(scores)} files, {scores['seconds'].sum() / 60:.1f} minutes"]
    if len(gain):
        parts.append(f"gain of the speech {gain.mean():+.1f} dB ({gain.min():+.1f} to {gain.max():+.1f})")
    parts.append(f"{inverted} inverted")
    if len(late):
        what = "taken out before scoring" if aligned else "left as it is"
        parts.append(f"{len(late)} late by {late.min():+.1f} to {late.max():+.1f} ms, {what}")
    else:
        parts.append("none delayed")
    return f"{signal}: {', '.join(parts)}, {clipped} that touch full scale."


def _with_interval(values: np.ndarray, places: int) -> str:
    if not values.size:
        return "-"
    low, high = confidence_interval(values)
    deviation = (
        f" ± {values.std(ddof=1):.{places}f} [{low:.{places}f}, {high:.{places}f}]" if values.size > 1 else ""
    )
    return f"{values.mean():.{places}f}{deviation}"


def main() -> None:
    failures = score_recordings(parse_arguments(ScoreSettings, __doc__))
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
