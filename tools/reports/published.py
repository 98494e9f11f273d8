"""A published comparison as Markdown, for docs/results.md and README.md."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from config import SAMPLE_RATE, Config
from models import build_model, complete
from tools.common.files import read_json
from tools.common.run_folder import read_history
from tools.reports.comparison import EVERYWHERE, Run, find_differences, pool_seeds, seed_spread
from tools.reports.difference_tables import MARKS, difference_cells, spread_table, verdict_cells
from tools.reports.sentences import alarms
from tools.reports.tables import TITLES, Row, markdown_table, score_blocks, score_table
from tools.reports.tuning import at_the_edge, tuning_cells

# Other entries of environment.json are private details of the machine.
NAMES = ("started", "python", "packages", "device", "gpu", "cpu", "cores", "threads", "commit", "changed")
CALL = TypedDict("Call", dict.fromkeys(NAMES, Any) | {"packages": dict[str, str]})


class FACTS(TypedDict):
    steps: int
    item_samples: int
    calls: list[CALL]


BASELINE = "SI-SNR"
SCORES = ("pesq", "stoi", "estoi", "si_sdr", "dnsmos_ovrl")
MIDDLE_DB = (-5.0, 10.0)  # where every loss is expected to help


def shown_scores(rows: Sequence[Row]) -> list[str]:
    """Return those of SCORES that the rows have."""
    return [score for score in SCORES if score in rows[0]]


def results_text(groups: Mapping[str, Sequence[Run]], verdict: str, tuning: Sequence[Row] = ()) -> str:
    """Return the part of docs/results.md: conditions, scores, differences, spread over seeds, tuned rates.

    verdict: the table that comes first, from `whole_grid_table`.
    """
    rows, signals, spread = pool_seeds(groups), ["noisy", *groups], seed_spread(groups)
    scores = shown_scores(rows)
    tables = [score_table(rows, score, signals).replace("### ", "#### ", 1).strip() for score in scores]
    further = [TITLES[score][0].removesuffix(" (dB)") for score in scores[2:]]
    parts = [
        conditions(groups),
        verdict,
        MARKS,
        summary_table(rows, signals),
        above_noisy(rows, list(groups)),
        *tables[:2],
        *_folded(f"{', '.join(further[:-1])} and {further[-1]} over dB", tables[2:]),
        difference_table(rows, list(groups)),
        *(sentence.removeprefix("Attention: ") for sentence in alarms(groups, left_out=False)),
    ]
    if spread:
        parts += _folded("Spread over seeds (± standard deviation)", [spread_table(spread, scores)])
    if tuning:
        parts += _folded(
            "Learning rates, tuned for each loss",
            [markdown_table("", *tuning_cells(tuning)), *at_the_edge(tuning)],
        )
    return "\n\n".join(parts)


def conditions(groups: Mapping[str, Sequence[Run]]) -> str:
    """Return a paragraph on network, training, time, machine and code."""
    runs = [run for group in groups.values() for run in group]
    facts = [read_json(run.folder / "facts.json", FACTS, "publish its runs again") for run in runs]
    config, fact = runs[0].config, facts[0]
    hours = fact["steps"] * config.batch_size * fact["item_samples"] / SAMPLE_RATE / 3600
    minutes = [sum(row["seconds"] for row in read_history(run.folder)) / 60 for run in runs]
    calls = [call for fact in facts for call in fact["calls"]]
    rates: dict[float, list[str]] = {}
    for label, group in groups.items():
        rates.setdefault(group[0].config.learning_rate, []).append(label)
    each = "; ".join(f"{rate:g} ({', '.join(labels)})" for rate, labels in sorted(rates.items()))
    rate = f"learning rate {config.learning_rate:g}" if len(rates) == 1 else f"tuned learning rates {each}"
    return (
        f"{describe_network(config)}; {_list({fact['steps'] for fact in facts})} steps with {config.batch_size} "
        f"utterances each in {config.epochs} epochs ({hours:.1f} hours of audio), Adam, {rate}, {config.schedule} "
        f"schedule, {config.precision}; seeds {_list({run.config.seed for run in runs})}. A training took "
        f"{min(minutes):.1f} to {max(minutes):.1f} minutes, all {len(runs)} together {sum(minutes) / 60:.1f} "
        f"hours, each on {_list({_hardware(call) for call in calls})}, with PyTorch "
        f"{_list({call['packages'].get('torch') for call in calls})}; commit "
        f"{_list({str(call['commit'])[:7] for call in calls})}."
    )


def describe_network(config: Config) -> str:
    """Return the network's name, number of weights and settings that differ from its defaults."""
    weights = sum(weight.numel() for weight in build_model(config).parameters())
    default = complete(Config(model=config.model)).network
    settings = {name: value for name, value in config.network.items() if value != default[name]}
    listed = ", ".join(
        f"`{name}` {_list(value) if isinstance(value, tuple) else value}" for name, value in settings.items()
    )
    return f"{config.model} with {weights:,} weights" + (f" ({listed})" if listed else "")


def summary_table(rows: Sequence[Row], signals: Sequence[str]) -> str:
    """Return means over all dB: a row a signal, a column a noise type and score, the best of each column bold."""
    columns, titles = [], []
    for noise in dict.fromkeys(row["noise_type"] for row in rows):
        for score in shown_scores(rows):
            title, places = TITLES[score]
            block = next(block for block in score_blocks(rows, score, signals) if block.noise_type == noise)
            means, best = [block.means[signal][-1] for signal in signals], block.best()[-1]
            columns.append([_bold(f"{value:.{places}f}", value == best) for value in means])
            titles.append(f"{noise}: {title}")
    return markdown_table("mean over all SNRs", titles, _turned(signals, columns))


def whole_grid_table(rows: Sequence[Row], differences: Sequence[Row], signals: Sequence[str]) -> str:
    """Return means over all noise types and SNRs: a row a signal, with marks and differences from the baseline."""
    cells = verdict_cells(rows, differences, signals, BASELINE, shown_scores(rows))
    return markdown_table("mean over the whole grid", *cells)


def above_noisy(rows: Sequence[Row], labels: Sequence[str]) -> str:
    """Return a sentence on whether every loss beats the noisy speech at middle SNRs of the first noise type."""
    low, high = MIDDLE_DB
    middle = [row for row in rows if low <= row["snr_db"] <= high]
    exceptions, scores = [], shown_scores(rows)
    for score in scores:
        block = score_blocks(middle, score, ["noisy", *labels])[0]
        columns, named = [column.removesuffix(" dB") for column in block.columns[:-1]], []  # without the average
        for label in labels:
            pairs = zip(columns, block.means[label], block.means["noisy"], strict=False)
            if below := [column for column, value, noisy in pairs if value <= noisy]:
                named.append(f"{label} at {_list(below)} dB")
        if named:
            exceptions.append(f"{TITLES[score][0]} with {'; '.join(named)}")
    where = f"From {low:g} to {high:g} dB with {block.noise_type} noise"
    what = ", ".join(TITLES[score][0] for score in scores)
    if not exceptions:
        return f"{where}, every loss is above the noisy speech in {what}."
    lines = "\n".join(f"- {exception}" for exception in exceptions)
    return f"{where}, every loss is above the noisy speech in {what}, except for\n\n{lines}"


def difference_table(rows: Sequence[Row], labels: Sequence[str]) -> str:
    """Return differences over the whole grid: of losses from the baseline, of combinations from their base."""
    lines, scores = {}, shown_scores(rows)
    for base in (BASELINE, *(label for label in labels if label != BASELINE)):
        others = [label for label in labels if base in (BASELINE, label.partition("+")[0]) and label != base]
        if others:
            differences = find_differences([row for row in rows if row["signal"] in (base, *others)], base, scores)
            whole = [difference for difference in differences if difference["noise_type"] == EVERYWHERE]
            (cells,) = difference_cells(whole, base, scores).values()
            lines |= {f"{other} − {base}": cells[other] for other in others}
    note = "95% confidence intervals; bold where p < 0.05 after the correction for the number of comparisons."
    table = markdown_table("difference, whole grid", [TITLES[score][0] for score in scores], lines)
    return f"{table}\n\n{note}"


def _turned(names: Sequence[str], columns: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return cells by row, given cells by column."""
    return dict(zip(names, zip(*columns, strict=True), strict=True))


def _hardware(call: Mapping[str, Any]) -> str:
    if call["gpu"]:
        return call["gpu"]
    return f"{call['threads']} thread{'s' * (call['threads'] > 1)} of {call['cores']} cores ({call['cpu']})"


def _folded(summary: str, parts: Sequence[str]) -> list[str]:
    return [f"<details><summary>{summary}</summary>", *parts, "</details>"]


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _list(values: object) -> str:
    return ", ".join(str(value) for value in (sorted(values) if isinstance(values, set) else values))
