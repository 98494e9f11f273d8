"""Tables of scores: a block a noise type, a row a signal, a column a dB value and the average."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SIGNALS = ("noisy", "enhanced")
TITLES = {
    "pesq": ("PESQ (wide-band)", 2),
    "pesq_nb": ("PESQ (narrow-band)", 2),
    "stoi": ("STOI", 3),
    "estoi": ("ESTOI", 3),
    "si_sdr": ("SI-SDR (dB)", 2),
    "ssnr": ("Segmental SNR (dB)", 2),
    "csig": ("CSIG", 2),
    "cbak": ("CBAK", 2),
    "covl": ("COVL", 2),
    "dnsmos_sig": ("DNSMOS SIG", 2),
    "dnsmos_bak": ("DNSMOS BAK", 2),
    "dnsmos_ovrl": ("DNSMOS OVRL", 2),
    "distillmos": ("DistillMOS", 2),
}  # title and decimal places

LISTED = 20  # rows that a paragraph lists

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Block:
    """Means of one score in one noise type: for each signal one a dB value and, last, over all utterances."""

    noise_type: str
    columns: list[str]
    means: dict[str, list[float]]

    def best(self) -> list[float]:
        """Return the highest mean of each column."""
        return [max(values) for values in zip(*self.means.values(), strict=True)]

    def texts(self, places: int, bold: str = "{}") -> dict[str, list[str]]:
        """Return each signal's means as text, the best of a column in `bold`."""

        def text(value: float, top: float) -> str:
            shown = "-" if math.isnan(value) else f"{value:.{places}f}"
            return bold.format(shown) if value == top else shown

        best = self.best()
        return {signal: list(map(text, values, best)) for signal, values in self.means.items()}


def markdown_table(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Return a Markdown table. corner: head of the first column, which holds the names of the rows."""
    lines = [[corner, *columns], *([name, *cells] for name, cells in rows.items())]
    assert all(len(line) == len(columns) + 1 for line in lines), "as many cells as heads"
    texts = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([texts[0].replace("|  |", "| |"), "|---" * (len(columns) + 1) + "|", *texts[1:]])


def listed(title: str, rows: Sequence[Row], column: str, name: str) -> list[str]:
    """Return a paragraph that lists the rows with a non-empty column, if there are any.

    name: template of a row's name, with columns in braces.
    """
    lines = [f"- {name.format_map(row)}: {row[column]}" for row in rows if row[column]]
    if not lines:
        return []
    more = [f"- … and {len(lines) - LISTED} more, see scores.csv"] if len(lines) > LISTED else []
    return ["\n".join([f"### {title}: {len(lines)} of {len(rows)} signals", "", *lines[:LISTED], *more])]


def average_gain(rows: Iterable[Row], score: str) -> float:
    """Return the mean of enhanced minus noisy over the utterances with both scores; NaN for none."""
    complete = complete_utterances(rows, score, SIGNALS)
    return mean([values["enhanced"] - values["noisy"] for values in complete.values()])


def score_blocks(rows: Sequence[Row], score: str, signals: Sequence[str] = SIGNALS) -> list[Block]:
    """Return means of one score from rows with noise_type, snr_db, utterance, signal and the score.

    An utterance that has no score for one of the signals is left out of all.
    """
    complete = complete_utterances(rows, score, signals)
    blocks = []
    for noise in dict.fromkeys(row["noise_type"] for row in rows):
        snrs = list(dict.fromkeys(row["snr_db"] for row in rows if row["noise_type"] == noise))
        cells = [[values for key, values in complete.items() if key[:2] == (noise, snr)] for snr in snrs]
        cells.append([values for cell in cells for values in cell])
        means = {signal: [mean([values[signal] for values in cell]) for cell in cells] for signal in signals}
        blocks.append(Block(noise, [*(f"{snr:g} dB" for snr in snrs), "average"], means))
    return blocks


def score_table(rows: Sequence[Row], score: str, signals: Sequence[str] = SIGNALS) -> str:
    """Return the Markdown tables of a score, the best of each column bold, and the utterances left out."""
    title, places = TITLES[score]
    lines = [f"### {title}", ""]
    for block in score_blocks(rows, score, signals):
        lines += [markdown_table(block.noise_type, block.columns, block.texts(places, "**{}**")), ""]
    return "\n".join([*lines, *_left_out(rows, score, signals)])


def latex_table(rows: Sequence[Row], score: str, signals: Sequence[str] = SIGNALS) -> str:
    """Return the tables of a score as a LaTeX float that needs no package, for \\input in a paper."""
    title, places = TITLES[score]
    blocks = score_blocks(rows, score, signals)
    caption = " ".join([f"{title}, mean over utterances.", *_left_out(rows, score, signals)]).strip()
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption.translate(_LATEX)}}}",
        rf"\begin{{tabular}}{{ll{'r' * len(blocks[0].columns)}}}",
        r"\hline",
    ]
    for block in blocks:
        lines += [
            " & ".join(["", "", *(column.replace("-", "$-$") for column in block.columns)]) + r" \\",
            r"\hline",
        ]
        for number, (signal, cells) in enumerate(block.texts(places, r"\textbf{{{}}}").items()):
            noise = block.noise_type.translate(_LATEX) if number == 0 else ""
            cells = [cell.replace("-", "$-$") for cell in cells]
            lines.append(" & ".join([noise, signal.translate(_LATEX), *cells]) + r" \\")
        lines.append(r"\hline")
    return "\n".join([*lines, r"\end{tabular}", r"\end{table}", ""])


def plain_text(report: str) -> str:
    """Return a Markdown report for a terminal: aligned columns, a star for bold, no other markup."""
    lines: list[str] = []
    table: list[list[str]] = []
    for line in [*report.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            table.append([f"{cell.strip('*')}*" if cell.startswith("**") else f"{cell} " for cell in cells])
            continue
        rows = [row for row in table if set("".join(row)) - set("-: ")]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            first, *rest = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            lines.append(" ".join([first.lstrip().ljust(widths[0]), *rest]).rstrip())
        table = []
        lines.append(line.lstrip("# ").replace("**", "") if line.startswith("#") else line.replace("**", ""))
        lines[-1] = lines[-1].replace("best of each column bold", "best of each column marked *")
    return "\n".join(lines[:-1])


def complete_utterances(rows: Iterable[Row], score: str, signals: Sequence[str]) -> dict[tuple, dict[str, float]]:
    """Return the scores of the signals by (noise type, dB, utterance), of utterances with all of them."""
    found: dict[tuple, dict[str, float]] = {}
    for row in rows:
        if row["signal"] in signals and not math.isnan(row[score]):
            found.setdefault(utterance_key(row), {})[row["signal"]] = row[score]
    return {key: values for key, values in found.items() if len(values) == len(signals)}


def utterance_key(row: Row) -> tuple[str, float, int]:
    """Return the place of a row in the test grid: noise type, dB and utterance number."""
    return row["noise_type"], row["snr_db"], row["utterance"]


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN for no values."""
    return sum(values) / len(values) if values else math.nan


def _left_out(rows: Sequence[Row], score: str, signals: Sequence[str]) -> list[str]:
    utterances = len({utterance_key(row) for row in rows})
    complete = len(complete_utterances(rows, score, signals))
    if complete == utterances:
        return []
    return [f"{utterances - complete} of {utterances} utterances have no {TITLES[score][0]} and are left out.", ""]


_LATEX = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
