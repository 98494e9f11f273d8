"""One kind of table, for Markdown, a terminal, LaTeX and the page, and the tables of a comparison."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tools.reports.comparison import (
    EVERYWHERE,
    UTTERANCE,
    VALIDATED,
    by_seed,
    by_signal,
    metrics_of,
    per_utterance,
)
from tools.scoring.scores import METRICS

LABEL_WIDTH = 32  # characters of the first column on a terminal; a longer name continues in the next line
NAMED = 4  # flagged rows that a sentence names
MARKS = (
    "▲ better, ▼ worse than the baseline, ≈ about equal, · not distinguishable; △ ▽: significant for these "
    "networks; more seeds needed."
)
_LATEX = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


@dataclass(frozen=True)
class Table:
    """A table of texts under a title.

    texts: [rows, columns] of str; the name of its index is the head of the first column.
    bold: [rows, columns] of bool; by default none is.
    """

    title: str
    texts: pd.DataFrame
    bold: pd.DataFrame | None = None

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[str]], columns: Sequence[str], corner: str = "") -> Table:
        """Return a table of rows of cells by name. corner: the head of the column of names."""
        texts = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        return cls("", texts.rename_axis(index=corner))

    def lines(self, mark: str = "{}") -> list[list[str]]:
        """Return the head and the rows as lists of cells, bold ones put into `mark`."""
        texts = self.texts
        if self.bold is not None:
            texts = texts.mask(self.bold.to_numpy(), texts.map(mark.format))
        rows = zip(texts.index, texts.to_numpy(), strict=True)
        return [[texts.index.name or "", *texts.columns], *([name, *cells] for name, cells in rows)]

    def markdown(self) -> str:
        """Return the title as a heading, and the table."""
        rows = [[cell.replace("|", "\\|") for cell in line] for line in self.lines("**{}**")]
        head, *lines = ("| " + " | ".join(row) + " |" for row in rows)
        table = [head.replace("|  |", "| |"), "|---" * len(rows[0]) + "|", *lines]
        return "\n".join([f"### {self.title}", "", *table] if self.title else table)

    def terminal(self, width: int = 80) -> str:
        """Return aligned columns, bold cells with a star; columns beyond the width follow below the others."""
        names, *columns = zip(*self.lines("{}*"), strict=True)
        names = [textwrap.wrap(name, LABEL_WIDTH) or [""] for name in names]
        label_width = max(len(part) for name in names for part in name)
        blocks: list[list[list[str]]] = []
        for column in columns:
            cells = [cell if cell.endswith("*") else f"{cell} " for cell in column]
            cells = [cell.rjust(1 + max(map(len, cells))) for cell in cells]
            if not blocks or label_width + sum(len(other[0]) for other in [*blocks[-1], cells]) > width:
                blocks.append([])
            blocks[-1].append(cells)
        texts = [self.title] if self.title else []
        for block in blocks:
            for (first, *rest), *cells in zip(names, *block, strict=True):
                texts += ["".join([first.ljust(label_width), *cells]).rstrip(), *rest]
            texts.append("")
        return "\n".join(texts[:-1])

    def latex(self) -> str:
        r"""Return a float that needs no package, for \input in a paper."""
        texts = self.texts.map(_escape).set_axis(self.texts.index.map(_escape))
        head, *rows = Table("", texts, self.bold).lines(r"\textbf{{{}}}")
        head, *rows = (" & ".join(line) + r" \\" for line in (map(_escape, head), *rows))
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(self.title)}}}"]
        lines += [rf"\begin{{tabular}}{{l{'r' * len(texts.columns)}}}", r"\hline", head, r"\hline", *rows]
        return "\n".join([*lines, r"\hline", r"\end{tabular}", r"\end{table}", ""])


def markdown(parts: Sequence[str | Table]) -> str:
    """Return paragraphs and tables as a Markdown file."""
    return "\n\n".join(part if isinstance(part, str) else part.markdown() for part in parts) + "\n"


def terminal(parts: Sequence[str | Table], width: int = 80) -> str:
    """Return paragraphs and tables for a terminal: lines wrapped, headings without their marks."""
    texts = []
    for part in parts:
        if isinstance(part, Table):
            texts.append(part.terminal(width))
        else:
            lines = (textwrap.wrap(line.lstrip("# "), width, break_on_hyphens=False) for line in part.splitlines())
            texts.append("\n".join("\n".join(line) for line in lines))
    return "\n\n".join(texts) + "\n"


def number_table(title: str, numbers: pd.DataFrame, places: int, sign: int) -> Table:
    """Return a table of numbers with so many decimal places; the best printed values of a column are bold.

    A column whose values all print alike has no bold one. sign: -1 if lower is better.
    """
    texts = numbers.map(f"{{:.{places}f}}".format)
    printed = sign * texts.astype(float)
    return Table(title, texts.replace("nan", "–"), printed.eq(printed.max()) & (printed.nunique() > 1))


def score_tables(scores: pd.DataFrame, name: str) -> list[Table]:
    """Return a table a noise type: means of a metric, a row a signal, a column a dB value and the average."""
    metric, values = METRICS[name], by_signal(scores, name)
    tables = []
    for noise_type, own in values.groupby(level="noise_type", sort=False):
        cells = {f"{snr_db:g} dB": cell for snr_db, cell in own.groupby(level="snr_db")} | {"average": own}
        means = pd.DataFrame({cell: per_utterance(part, scores, name).mean() for cell, part in cells.items()})
        means = means.rename_axis(index=noise_type)
        tables.append(number_table(f"{metric.title}, {noise_type}", means, metric.places, metric.sign))
    return tables


def paper_table(scores: pd.DataFrame, name: str) -> Table:
    """Return the paper's table of a metric: a row a signal in each noise type, a column a dB value."""
    texts, bold = [], []
    for table in score_tables(scores, name):
        head = pd.DataFrame("", [f"{table.texts.index.name} noise"], table.texts.columns)
        texts += [head, table.texts]
        bold += [head.astype(bool), table.bold]
    return Table(METRICS[name].title, pd.concat(texts).rename_axis(index=None), pd.concat(bold))


def about_words(scores: pd.DataFrame, index: Sequence[str] = UTTERANCE) -> list[str]:
    """Return a sentence on how word errors are counted, if they are."""
    if "words" not in scores:
        return []
    count = scores.dropna(subset="words").drop_duplicates(index)["words"].sum()
    reference = scores["reference"].fillna("").max()  # "" where no words are counted
    return [f"Word errors: of all {count:.0f} words in {reference}; at most 100% of an utterance."]


def left_out(scores: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Return a sentence for each metric on the utterances of which a signal lacks it, and on seeds without it."""
    sentences, runs = [], len(scores[["signal", "seed"]].drop_duplicates())
    for name in metrics:
        table, title = by_seed(scores, name), METRICS[name].title
        if missing := int(table.isna().any(axis=1).sum()):
            sentences.append(f"{missing} of {len(table)} utterances have no {title} and are left out.")
        if table.shape[1] < runs:
            sentences.append(f"{title} is that of {table.shape[1] - 1} of {runs - 1} runs.")
    return sentences


def verdict_table(scores: pd.DataFrame, differences: pd.DataFrame, baseline: str, metrics: Sequence[str]) -> Table:
    """Return the summary: mark, mean over the whole grid, and difference from the baseline, a column a metric."""
    whole = differences[differences["noise_type"] == EVERYWHERE]
    rows = {(row["signal"], row["metric"]): row for row in whole.to_dict("records")}
    signals = scores["signal"].unique()
    texts = pd.DataFrame(index=signals)
    for name in metrics:
        means, places = per_utterance(by_signal(scores, name), scores, name).mean(), METRICS[name].places
        texts[METRICS[name].title] = [
            _verdict_cell(means[signal], places, rows.get((signal, name))) for signal in signals
        ]
    texts = texts.rename(index={baseline: f"{baseline} (baseline)"} if baseline != "noisy" else {})
    return Table("", texts.rename_axis(index="mean over the whole grid"))


def mark(row: Mapping[str, Any]) -> str:
    """Return ▲ ▼ ≈ or · for a difference; △ ▽ if it holds for these networks but maybe not for other seeds.

    Nothing for a difference without an interval.
    """
    if not isinstance(row["verdict"], str):
        return ""
    over_seeds = row.get("seed_verdict")
    if not isinstance(over_seeds, str):
        return {"better": "△", "worse": "▽", "about equal": "≈"}.get(row["verdict"], "·")
    hollow = {"better": "△", "worse": "▽"}.get(row["verdict"], "·")
    return {"better": "▲", "worse": "▼", "about equal": "≈"}.get(over_seeds, hollow)


def difference_tables(differences: pd.DataFrame) -> list[Table]:
    """Return a table for the whole grid and each noise type: differences with intervals, significant ones bold.

    With several seeds, tables with the intervals over seeds follow.
    """
    tables = []
    for prefix in ("", "seed_") if "seed_p" in differences else ("",):
        known = differences.dropna(subset="seed_p") if prefix else differences
        for noise_type, own in known.groupby("noise_type", sort=False):
            where = "the whole grid" if noise_type == EVERYWHERE else f"{noise_type} noise"
            title = f"Difference from {own['baseline'].iloc[0]}, {where}{', over seeds' if prefix else ''}"
            own = own.assign(text=[interval_text(row, prefix) for row in own.to_dict("records")])
            own["metric"] = [METRICS[name].title for name in own["metric"]]
            cells = own.set_index(["signal", "metric"])
            bold = cells[f"{prefix}verdict"].isin(["better", "worse"]).unstack(sort=False)
            texts = cells["text"].unstack(sort=False).rename_axis(index=None)
            tables.append(Table(title, texts.fillna("–"), bold.eq(True)))
    return tables


def interval_text(row: Mapping[str, Any], prefix: str = "") -> str:
    """Return a difference with its 95% interval, that of the columns <prefix>low and <prefix>high."""
    low, high, places = row[f"{prefix}low"], row[f"{prefix}high"], METRICS[row["metric"]].places
    interval = f" [{low:+.{places}f}, {high:+.{places}f}]" if math.isfinite(low) else ""
    return f"{row['difference']:+.{places}f}{interval}"


def spread_tables(scores: pd.DataFrame) -> list[Table]:
    """Return a table of mean ± standard deviation over seeds of the average scores, if there are several seeds."""
    of_runs = pd.DataFrame({n: per_utterance(by_seed(scores, n), scores, n).mean() for n in metrics_of(scores)})
    of_runs = of_runs.reindex(pd.MultiIndex.from_frame(scores[["signal", "seed"]].drop_duplicates()))
    own = of_runs.groupby(level="signal", sort=False)
    texts = pd.DataFrame({"seeds": own.size().map(str)})
    for name in of_runs:
        places, spread = METRICS[name].places, zip(own[name].mean(), own[name].std(), strict=True)
        texts[METRICS[name].title] = [
            "–" if math.isnan(std) else f"{mean:.{places}f} ± {std:.{places + 1}f}" for mean, std in spread
        ]
    texts = texts[own.size() > 1].rename_axis(index=None)
    return [Table("Spread over seeds", texts)] if len(texts) else []


def flagged(scores: pd.DataFrame, template: str) -> list[str]:
    """Return sentences on suspect PESQ values and on missing scores, if there are any. template: names a row."""
    sentences = []
    for column in ("suspect", "missing"):
        rows = scores[scores[column] != ""].to_dict("records") if column in scores else []
        named = [f"{template.format_map(row)}: {row[column]}" for row in rows[:NAMED]]
        more = [f"and {len(rows) - NAMED} more, see scores.csv"] if len(rows) > NAMED else []
        text = "; ".join([*named, *more])
        if rows and column == "missing":
            sentences.append(f"{len(rows)} of {len(scores)} signals lack a score: {text}.")
        elif rows:
            what = "value (contradicts" if len(rows) == 1 else "values (contradict"
            sentences.append(f"Attention: {len(rows)} suspect PESQ {what} STOI, narrow-band PESQ): {text}.")
    return sentences


def tuning_table(rates: pd.DataFrame) -> Table:
    """Return the table of the learning rates tried for each loss, with the chosen ones bold."""
    texts = pd.DataFrame({METRICS[n].title: rates[n].map(f"{{:.{METRICS[n].places}f}}".format) for n in VALIDATED})
    bold = texts.notna().mul(rates["chosen"], axis=0)
    texts.index = [
        f"{row.loss}, {row.learning_rate:g}{', chosen' * row.chosen}" for row in rates.itertuples(index=False)
    ]
    return Table("Learning rates, tuned for each loss", texts, bold)


def _verdict_cell(mean: float, places: int, row: Mapping[str, Any] | None) -> str:
    text = "–" if math.isnan(mean) else f"{mean:.{places}f}"
    return f"{mark(row)} {text} ({row['difference']:+.{places}f})".strip() if row else text


def _escape(text: str) -> str:
    """Return a text for LaTeX, with minus signs before numbers."""
    return re.sub(r"-(?=\d)", "$-$", text.translate(_LATEX))
