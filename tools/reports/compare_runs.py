"""Comparison of tested runs: from their scores to tables, figures and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from config import FolderName
from tools.common.errors import UserError
from tools.common.files import write_csv, write_text
from tools.common.run_folder import find_run
from tools.reports.comparison import (
    MAIN_SCORES,
    Run,
    check_same_data,
    find_differences,
    first_runs,
    group_runs,
    pool_seeds,
    read_run,
    seed_spread,
    shared_scores,
)
from tools.reports.difference_tables import (
    MARKS,
    difference_cells,
    difference_tables,
    how_to_read,
    spread_table,
    verdict_cells,
)
from tools.reports.figures import save_figure, score_curves, tuning_curves
from tools.reports.listening_tests import write_p808, write_webmushra
from tools.reports.page import Page, collect_audio, samples_folders, write_page
from tools.reports.sentences import alarms, describe, independent_utterances, own_metrics, trade_offs
from tools.reports.tables import latex_table, markdown_table, plain_text, score_table
from tools.reports.tuning import at_the_edge, read_tuning, tuning_cells
from tools.reports.votes import comparison_id, preference_rows, read_votes
from tools.scoring.alarm import leave_out


@dataclass(frozen=True)
class CompareSettings:
    """Runs to compare, the baseline, and what to write."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Tested runs: names in runs/, or folders."""
    baseline: str = ""
    """The run that the others are compared with; by default the first one named."""
    name: FolderName = "comparison"
    """The results go to results/<name>/."""
    flagged: Literal["keep", "leave-out"] = "keep"
    """Whether to keep a PESQ that the other scores contradict, or to leave it out for all signals; it is listed in
    any case."""
    data: str = ""
    """The test set to compare on, if the runs were tested on several; by default that of the training."""
    utterances: tuple[int, ...] = (0,)
    """Utterances to listen to on the page, of each noise type and dB; test.py must have saved them (--samples)."""
    votes: tuple[Path, ...] = ()
    """Files of blind votes that listeners saved on the page, to be pooled."""
    tuning: Path | None = None
    """The tuning.csv of tools.sweep --tune, to show."""
    listening_test: bool = False
    """Also write a listening test of these utterances, for webMUSHRA (BS.1534) and the P.808 toolkit (ACR)."""
    clips_address: str = "https://example.org/clips"
    """Where the clips of the P.808 test will be uploaded to."""


def compare(settings: CompareSettings) -> Path:
    """Write results/<name>/ and return it. Raises UserError if the runs cannot be compared."""
    groups, flagged = read_groups(settings)
    baseline = find_baseline(groups, settings.baseline)
    labels, scores = list(groups), shared_scores(groups)
    rows = pool_seeds(groups)
    places = collect_audio(samples_folders(groups), rows, settings.utterances)
    if settings.listening_test and not places:
        raise UserError("utterances: found none, expected one or more for a listening test")
    comparison = comparison_id(places)
    further = further_tables(settings, comparison, labels)
    differences = find_differences(rows, baseline, scores, groups)
    sentences = [describe(differences, label) for label in labels if label != baseline]
    against_noisy = find_differences(rows, "noisy", MAIN_SCORES)
    tuning = read_tuning(settings.tuning) if settings.tuning else []
    warnings = own_metrics(differences) + trade_offs(differences) + trade_offs(against_noisy)
    notes = [
        how_to_read(groups),
        *independent_utterances(rows),
        *sentences,
        *warnings,
        *at_the_edge(tuning),
        *flagged,
        *(["There are no samples to listen to; `test.py --samples 1` writes some."] if not places else []),
    ]
    spread, cells = seed_spread(groups), difference_cells(differences, baseline, scores)
    signals = ["noisy", *labels]
    verdict = verdict_cells(rows, differences, signals, baseline)
    parts = [
        f"# {settings.name}",
        markdown_table("mean over the whole grid", *verdict),
        MARKS,
        *(f"### {title}\n\n{markdown_table('', *table)}" for title, table in further.items()),
        notes[0],
        "\n".join(f"- {note}" for note in notes[1:]),
        *(score_table(rows, name, signals).strip() for name in scores),
        *difference_tables(cells, scores),
        *(["### Spread over seeds", spread_table(spread, scores)] if spread else []),
    ]
    report = "\n\n".join(part for part in parts if part) + "\n"
    folder = Path("results") / settings.name
    write_csv(folder / "scores.csv", rows)
    write_csv(folder / "differences.csv", differences)
    write_text(folder / "tables.md", report)
    write_text(folder / "tables.tex", "\n".join(latex_table(rows, name, signals) for name in scores))
    save_figure(score_curves(rows, scores, signals), folder, "curves")
    if tuning:
        save_figure(tuning_curves(tuning, MAIN_SCORES), folder, "tuning")
    page = Page(settings.name, verdict, notes, rows, signals, cells, scores, folder / "curves.png", places)
    write_page(folder, replace(page, heard=pool_seeds(first_runs(groups)), tables=further, comparison=comparison))
    if settings.listening_test:
        write_webmushra(folder / "webmushra", settings.name, places)
        write_p808(folder / "p808", places, settings.clips_address)
    print(plain_text(report))
    print(f"Tables, curves and the page are in {folder}; open {folder / 'index.html'} in a browser")
    return folder


def read_groups(settings: CompareSettings) -> tuple[dict[str, list[Run]], list[str]]:
    """Return the runs by label, seeds of one experiment together, and sentences on contradicted scores.

    Raises UserError if settings or runs do not allow a comparison.
    """
    if len(settings.runs) < 2:
        raise UserError(f"runs: found {len(settings.runs)}, expected two or more to compare")
    runs = [read_run(name, settings.data) for name in settings.runs]
    check_same_data(runs)
    groups = group_runs(runs)
    if len(groups) < 2:
        raise UserError(f"runs: all are seeds of one experiment ({next(iter(groups))}), expected two or more")
    left_out = settings.flagged == "leave-out"
    flagged = alarms(groups, left_out)
    if left_out:
        groups = {label: [replace(run, rows=leave_out(run.rows)) for run in g] for label, g in groups.items()}
    return groups, flagged


def further_tables(settings: CompareSettings, comparison: str, labels: Sequence[str]) -> dict[str, tuple]:
    """Return columns and cells of the tables of votes and tuned learning rates, by title, if there are any."""
    further = {}
    if ballots := read_votes(settings.votes, comparison, labels):
        votes = sum(len(ballot.votes) for ballot in ballots)
        title = f"{votes} blind votes of {len(ballots)} listener{'s' * (len(ballots) > 1)}"
        further[title] = ["preferred", "share of votes among all, % [95%]"], preference_rows(ballots, labels)
    if settings.tuning:
        further["Learning rates, tuned for each loss"] = tuning_cells(read_tuning(settings.tuning))
    return further


def find_baseline(groups: Mapping[str, Sequence[Run]], name: str) -> str:
    """Return the label of the group of the named run, or of the first group without a name."""
    if not name:
        return next(iter(groups))
    for label, group in groups.items():
        if name == label or any(find_run(name).absolute() == run.folder.absolute() for run in group):
            return label
    raise UserError(f"baseline: found {name}, expected one of the runs that are compared")
