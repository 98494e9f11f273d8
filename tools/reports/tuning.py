"""Choice of a loss's learning rate by validation scores that the loss does not approximate."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from tools.common.errors import UserError
from tools.common.files import read_csv
from tools.reports.comparison import MAIN_SCORES, own_scores
from tools.reports.tables import TITLES, Row

NUMBERS = ("learning_rate", "points", *MAIN_SCORES)
JUDGES = Annotated[str, Meta(pattern=f"^(({'|'.join(MAIN_SCORES)})( |$))*$")]
TUNING_ROW = TypedDict(
    "TuningRow", {"loss": str, "judged_by": JUDGES, "chosen": bool} | dict.fromkeys(NUMBERS, float)
)


def judge_rates(loss: str, histories: Mapping[float, Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Return a row for each learning rate of a loss: its validation scores, its points, and whether it is chosen.

    histories: rows of history.csv by learning rate. Points are the mean of the scores, each scaled from 0 (worst
    rate) to 1 (best rate), without the loss's own metric. Losses should be compared with a rate tuned for each:
    Kolbæk et al., IEEE/ACM TASLP 28, 2020. Raises UserError if a score was not validated.
    """
    judges = [name for name in MAIN_SCORES if name not in own_scores(loss)]
    rows = []
    for rate, history in sorted(histories.items()):
        last = {name: history[-1].get(f"valid_{name}", math.nan) for name in MAIN_SCORES}
        if any(math.isnan(last[name]) for name in judges):
            raise UserError(
                f"tune: the validation of {loss} at {rate:g} has no {' and '.join(judges)}, which judge its "
                "learning rate; train with --valid_scores above 0 and these in --valid_metrics"
            )
        rows.append({"loss": loss, "learning_rate": rate} | last | {"judged_by": " ".join(judges)})
    for row in rows:
        row["points"] = sum(_share(row[name], [r[name] for r in rows]) for name in judges) / len(judges)
    best = max(rows, key=lambda row: row["points"])
    for row in rows:
        row["chosen"] = row is best
    return rows


def read_tuning(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a tuning.csv; UserError for another file."""
    rows = read_csv(path, TUNING_ROW, advice := "expected a table that tools.sweep --tune wrote")
    if not rows or any(math.isinf(row[name]) for row in rows for name in NUMBERS):
        raise UserError(f"{path}: found no rows, or infinity; {advice}")
    return rows


def at_the_edge(rows: Sequence[Row]) -> list[str]:
    """Return a sentence on the losses whose best rate is the lowest or highest one tried, if there are any."""
    edges = []
    for loss in dict.fromkeys(row["loss"] for row in rows):
        own = {row["learning_rate"]: row["chosen"] for row in rows if row["loss"] == loss}
        edges += [f"{loss} ({rate:g})" for rate in (min(own), max(own)) if own[rate]]
    if not edges:
        return []
    return [
        f"Attention: the best rate may lie beyond those tried for {', '.join(edges)}; give more as --tune_rates."
    ]


def tuning_cells(rows: Sequence[Row]) -> tuple[list[str], dict[str, list[str]]]:
    """Return heads and cells of the table of learning rates tried for each loss."""
    heads = [*(TITLES[name][0] for name in MAIN_SCORES), "points", "judged by"]
    cells = {}
    for row in rows:
        texts = [*(f"{row[name]:.{TITLES[name][1]}f}" for name in MAIN_SCORES), f"{row['points']:.2f}"]
        judges = ", ".join(TITLES[name][0] for name in row["judged_by"].split())
        name = f"{row['loss']}, {row['learning_rate']:g}{', chosen' * row['chosen']}"
        cells[name] = [f"**{text}**" if row["chosen"] else text for text in texts] + [judges]
    return heads, cells


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.0
