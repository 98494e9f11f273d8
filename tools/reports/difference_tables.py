"""Tables of differences and of the spread over seeds, and how to read them."""

import math
from collections.abc import Mapping, Sequence

from tools.reports.comparison import EVERYWHERE, MAIN_SCORES, Run
from tools.reports.sentences import with_interval
from tools.reports.tables import TITLES, Row, complete_utterances, markdown_table, mean


def how_to_read(groups: Mapping[str, Sequence[Run]]) -> str:
    """Return the paragraph that explains the numbers."""
    seeds = ", ".join(f"{label}: {len(group)}" for label, group in groups.items() if len(group) > 1)
    text = (
        "Means over utterances, the best of each column bold. Differences are paired, with 95% confidence "
        "intervals from a bootstrap over utterances (those with the same clean speech are drawn together) and "
        "p-values corrected for the number of comparisons (Benjamini-Hochberg). About equal: not different, and "
        "the 90% interval within ±0.05 of PESQ or an opinion, ±0.01 of STOI or ESTOI, ±0.25 dB (two one-sided "
        "tests). "
    )
    if not seeds:
        return text + "They hold for these trained networks: each loss was trained with one seed."
    return text + (
        f"They hold for these trained networks. Scores are averaged over seeds ({seeds}); intervals over seeds "
        "(seeds and utterances drawn) hold for the losses."
    )


def verdict_cells(
    rows: Sequence[Row],
    differences: Sequence[Row],
    signals: Sequence[str],
    baseline: str,
    scores: Sequence[str] = (*MAIN_SCORES, "dnsmos_ovrl", "distillmos"),
) -> tuple[list[str], dict[str, list[str]]]:
    """Return heads and cells of the summary: mark, mean over the whole grid, difference from the baseline.

    signals: noisy first.
    """
    scores = [name for name in scores if name in rows[0]]
    found = {(r["signal"], r["score"]): r for r in differences if r["noise_type"] == EVERYWHERE}
    cells: dict[str, list[str]] = {signal: [] for signal in signals}
    for name in scores:
        complete, places = complete_utterances(rows, name, signals).values(), TITLES[name][1]
        for signal in signals:
            average, row = mean([values[signal] for values in complete]), found.get((signal, name))
            text = "–" if math.isnan(average) else f"{average:.{places}f}"
            if row:
                text = f"{mark(row)} {text} ({row['difference']:+.{places}f})"
            cells[signal].append(text)
    cells = {f"{signal} (baseline)" if signal == baseline else signal: row for signal, row in cells.items()}
    return [TITLES[name][0] for name in scores], cells


def mark(row: Row) -> str:
    """Return ▲ ▼ ≈ or · for a difference; △ ▽ if it holds for these networks but maybe not for other seeds."""
    marks = {"better": "▲", "worse": "▼", "about equal": "≈"}
    if "seed_verdict" not in row and row["verdict"] == "about equal":
        return "≈"
    hollow = {"better": "△", "worse": "▽"}.get(row["verdict"], "·")
    return marks.get(row.get("seed_verdict", ""), hollow)


MARKS = (
    "▲ better, ▼ worse than the baseline, ≈ about equal, · not distinguishable; △ ▽: so for these networks, but "
    "other seeds of the same losses may differ (one seed alone cannot tell)."
)


def difference_cells(
    differences: Sequence[Row], baseline: str, scores: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Return cells by title of a table and signal, one a score: the difference and its interval."""
    rows = {(row["noise_type"], row["signal"], row["score"]): row for row in differences}
    signals = list(dict.fromkeys(row["signal"] for row in differences))
    tables = {}
    for noise in dict.fromkeys(row["noise_type"] for row in differences):
        where = "the whole grid" if noise == EVERYWHERE else f"{noise} noise"
        tables[f"Difference from {baseline}, {where}"] = {
            signal: [_difference(rows.get((noise, signal, name))) for name in scores] for signal in signals
        }
    return tables


def difference_tables(cells: Mapping[str, Mapping[str, Sequence[str]]], scores: Sequence[str]) -> list[str]:
    """Return the tables of `difference_cells` as Markdown, and a note."""
    columns = [TITLES[name][0] for name in scores]
    tables = [f"### {title}\n\n{markdown_table('', columns, rows)}" for title, rows in cells.items()]
    return [*tables, "Bold: distinguishable from the baseline after the correction (p < 0.05)."]


def spread_table(spread: Sequence[Row], scores: Sequence[str]) -> str:
    """Return a Markdown table of mean ± standard deviation over seeds of the average score."""
    rows = {
        row["loss"]: [
            str(row["seeds"]),
            *(f"{row[f'{n}_mean']:.{TITLES[n][1]}f} ± {row[f'{n}_std']:.{TITLES[n][1] + 1}f}" for n in scores),
        ]
        for row in spread
    }
    return markdown_table("", ["seeds", *(TITLES[name][0] for name in scores)], rows)


def _difference(row: Row | None) -> str:
    if row is None:
        return "-"
    text = with_interval(row)
    return f"**{text}**" if row["verdict"] in ("better", "worse") else text
