"""Plain sentences on a comparison: how losses differ, and what to be careful about."""

import math
from collections.abc import Mapping, Sequence

from tools.reports.comparison import EQUAL, EVERYWHERE, MAIN_SCORES, Run, own_scores
from tools.reports.tables import TITLES, Row, utterance_key
from tools.scoring.alarm import contradiction

NAMED = 4  # contradicted values that a sentence names
FEW = 10  # independent utterances; fewer allow no conclusions


def independent_utterances(rows: Sequence[Row]) -> list[str]:
    """Return a sentence on the number of independent utterances, and a warning if they are too few."""
    clean, utterances = {row["clean"] for row in rows}, {utterance_key(row) for row in rows}
    cells = {key[:2] for key in utterances}
    number = len(clean)
    text = (
        f"There are {len(utterances)} noisy utterances, {len(utterances) / len(cells):.3g} in each of "
        f"{len(cells)} cells of noise type and dB, made of {number} clean ones: {number} are independent."
    )
    if number >= FEW:
        return [text]
    return [text, f"Attention: {number} independent utterances are too few to conclude from; test {FEW} or more."]


def describe(differences: Sequence[Row], signal: str) -> str:
    """Return a sentence on a signal against its baseline over the whole grid."""
    rows = {r["score"]: r for r in differences if r["signal"] == signal and r["noise_type"] == EVERYWHERE}
    parts = []
    for name in MAIN_SCORES:
        if name in rows:
            row, title = rows[name], TITLES[name][0]
            size = f"{with_interval(row)}, {_p_text(row['p_corrected'])}, {row['utterances']} utterances"
            if row["equal"]:
                size += f", within ±{EQUAL[name]:g}"
            if "seed_verdict" in row:
                seeds = {"low": row["seed_low"], "high": row["seed_high"]}
                size += f"; over seeds: {row['seed_verdict']} {with_interval(row | seeds)}"
            parts.append(f"{row['verdict']} in {title} ({size})")
    baseline = next(iter(rows.values()))["baseline"] if rows else "the baseline"
    return f"{signal} against {baseline}: {'; '.join(parts) or 'nothing that both have a score for'}."


def with_interval(row: Row) -> str:
    """Return a difference with its 95% interval as text."""
    places = TITLES[row["score"]][1]
    if math.isinf(row["low"]):
        return f"{row['difference']:+.{places}f} [too few utterances]"
    return f"{row['difference']:+.{places}f} [{row['low']:+.{places}f}, {row['high']:+.{places}f}]"


def own_metrics(differences: Sequence[Row]) -> list[str]:
    """Return a sentence for each loss whose own metric improves while another main score gets worse."""
    sentences = []
    for (signal, baseline, noise), rows in _by_comparison(differences).items():
        if noise != EVERYWHERE:
            continue
        own = [name for name in own_scores(signal.partition(" (")[0]) if name in rows]
        risen = [name for name in own if rows[name]["verdict"] == "better"]
        fallen = [n for n in MAIN_SCORES if n in rows and n not in own and rows[n]["verdict"] == "worse"]
        if risen and fallen:
            better, worse = (" and ".join(TITLES[name][0] for name in names) for names in (risen, fallen))
            sentences.append(
                f"Attention: {signal} is trained on what {better} measures. Against {baseline}, {better} is "
                f"better while {worse} is worse: the gain may be the metric's, not the listener's."
            )
    return sentences


def trade_offs(differences: Sequence[Row]) -> list[str]:
    """Return a sentence for each comparison with PESQ better and SI-SDR or ESTOI worse, or vice versa."""
    sentences = []
    everywhere = set()  # a trade-off on the whole grid is not repeated for noise types
    for (signal, baseline, noise), scores in _by_comparison(differences).items():
        for other in MAIN_SCORES[1:]:
            pair = [scores[name] for name in ("pesq", other) if name in scores]
            opposed, key = {row["verdict"] for row in pair} == {"better", "worse"}, (signal, baseline, other)
            if opposed and key not in everywhere:
                if noise == EVERYWHERE:
                    everywhere.add(key)
                changes = " while ".join(
                    f"{TITLES[row['score']][0]} {'rises' if row['difference'] > 0 else 'falls'} "
                    f"by {abs(row['difference']):.{TITLES[row['score']][1]}f}"
                    for row in pair
                )
                where = "the whole grid" if noise == EVERYWHERE else f"{noise} noise"
                sentences.append(f"Attention: {signal} against {baseline}, {where}: {changes}.")
    return sentences


def alarms(groups: Mapping[str, Sequence[Run]], left_out: bool) -> list[str]:
    """Return a sentence on the PESQ values that the other scores of the same signal contradict, if any."""
    found = [
        f"{label}, seed {run.config.seed}, {row['noise_type']} noise, {row['snr_db']:g} dB, utterance "
        f"{row['utterance']}, {row['signal']}: {reason}"
        for label, group in groups.items()
        for run in group
        for row in run.rows
        if (reason := contradiction(row)) and (row["signal"] != "noisy" or run is next(iter(groups.values()))[0])
    ]
    if not found:
        return []
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    what = "left out, for every signal" if left_out else "kept; --flagged leave-out leaves them out"
    return [
        f"Attention: PESQ cannot be right in {len(found)} cases, as other scores of the same signal "
        f"contradict it ({what}): {'; '.join(found[:NAMED])}{more}."
    ]


def _by_comparison(differences: Sequence[Row]) -> dict[tuple[str, str, str], dict[str, Row]]:
    """Return the rows by signal, baseline and noise type, each a dict by score."""
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in differences:
        found.setdefault((row["signal"], row["baseline"], row["noise_type"]), {})[row["score"]] = row
    return found


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
