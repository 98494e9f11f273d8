"""Tested runs compared on the same data: pooled seeds and differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from msgspec import Meta

from config import MAY_DIFFER, Config
from models import read_trained
from tools.common.errors import UserError
from tools.common.files import read_csv
from tools.common.run_folder import find_run, is_tested, read_config, scores_file
from tools.reports.significance import LEVEL, Difference, correct, paired_difference, seed_difference
from tools.reports.tables import SIGNALS, Row, complete_utterances, mean, utterance_key
from tools.scoring.scores import ALL_SCORES

MAIN_SCORES = ("pesq", "estoi", "si_sdr")  # PESQ alone can mislead
# Bounds of differences that count as about equal, as they are hardly audible.
EQUAL = {"stoi": 0.01, "estoi": 0.01, "si_sdr": 0.25, "ssnr": 0.25}
EQUAL = {name: EQUAL.get(name, 0.05) for name in ALL_SCORES}
# The scores that a loss term approximates: improving them alone says little about what a listener hears.
OWN_METRICS = {"PMSQE": ("pesq", "pesq_nb"), "PESQ": ("pesq", "pesq_nb"), "STOI": ("stoi",), "ESTOI": ("estoi",)}
OWN_METRICS |= dict.fromkeys(("SI-SDR", "SI-SNR", "signed-SI-SNR", "SDR", "SNR"), ("si_sdr",))
COUNT = Annotated[int, Meta(ge=0)]
PLACE = {
    "noise_type": str,
    "snr_db": Annotated[float, Meta(gt=-1000, lt=1000)],
    "utterance": COUNT,
    "signal": Literal["noisy", "enhanced"],
}
# A row of scores.csv; earlier versions did not write the column clean.
SCORE_ROW = TypedDict("ScoreRow", PLACE | {"clean": COUNT} | dict.fromkeys(ALL_SCORES, float), total=False)
EVERYWHERE = "all"  # noise type of differences over the whole grid


@dataclass(frozen=True)
class Run:
    """A tested run: its folder, its settings and the rows of its scores.csv."""

    folder: Path
    config: Config
    rows: list[dict[str, Any]]
    data: str = ""  # name of the set it was tested on; empty for scores in the old place, runs/<name>/test

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that define the experiment."""
        return {key: value for key, value in self.config.flat().items() if key not in MAY_DIFFER["seeds"]}

    def rows_of(self, signal: str) -> dict[tuple, Row]:
        """Return the rows of `noisy` or `enhanced` by place in the test grid."""
        return {utterance_key(row): row for row in self.rows if row["signal"] == signal}


def read_run(name: str, data: str = "") -> Run:
    """Return a run, given its folder or name; UserError if it is not tested or its scores are damaged.

    data: the set that it was tested on, if there are several.
    """
    folder = find_run(name)
    config = read_config(folder)
    path = scores_file(folder, data)
    if not path.is_file():
        raise UserError(f"{path}: no such file; test the run first: python test.py --name {folder.name}")
    if not is_tested(folder, path):
        raise UserError(f"{path}: of an earlier best.pt; test the run again: python test.py --name {folder.name}")
    if (folder / "best.pt").is_file():
        read_trained(folder / "best.pt", config)
    rows = read_csv(path, SCORE_ROW, "test the run again")
    if not rows:
        raise UserError(f"{path}: holds no scores; test the run again")
    if lacking := {*PLACE, *MAIN_SCORES} - rows[0].keys():
        raise UserError(f"{path}: has no column {', '.join(sorted(lacking))}; test the run again")
    _check_rows(path, rows)
    rows = [{"clean": row["utterance"]} | row for row in rows]
    return Run(folder, config, rows, path.parent.name if path.parent.parent.name == "test" else "")


def _check_rows(path: Path, rows: Sequence[Row]) -> None:
    """Raise UserError unless every utterance has one noisy and one enhanced row, with finite scores or NaN."""
    places = {signal: sorted(utterance_key(row) for row in rows if row["signal"] == signal) for signal in SIGNALS}
    if len(set(places["noisy"])) < len(places["noisy"]) or places["noisy"] != places["enhanced"]:
        raise UserError(f"{path}: expected one noisy and one enhanced row an utterance; test the run again")
    if any(math.isinf(row[name]) for row in rows for name in ALL_SCORES if name in row):
        raise UserError(f"{path}: found an infinite score, expected numbers or nothing; test the run again")


def check_same_data(runs: Sequence[Run]) -> None:
    """Raise UserError unless all runs have the same scores of noisy speech, hence the same test data."""
    first, *others = runs
    wanted = _noisy_scores(first)
    for run in others:
        found = _noisy_scores(run)
        if wanted.keys() != found.keys() or not all(
            np.allclose(wanted[key], found[key], atol=1e-3, equal_nan=True) for key in wanted
        ):
            raise UserError(
                f"{run.folder}: was tested on other data than {first.folder} (the scores of the noisy speech "
                "differ); test both on the same --data"
            )


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs by label, seeds of one experiment together; a label is the loss and differing settings."""
    by_settings: dict[str, list[Run]] = {}
    for run in runs:
        by_settings.setdefault(str(run.settings), []).append(run)
    groups = list(by_settings.values())
    for group in groups:
        seeds = [run.config.seed for run in group]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"{group[-1].folder}: the same experiment and seed is named twice; name each run once")
    labels = {}
    for group in groups:
        rivals = [g[0].settings for g in groups if g[0].settings["loss"] == group[0].settings["loss"]]
        differing = [key for key in rivals[0] if any(rival[key] != rivals[0][key] for rival in rivals)]
        details = ", ".join(f"{key} {group[0].settings[key]}" for key in differing)
        labels[group[0].config.loss + (f" ({details})" if details else "")] = group
    return labels


def pool_seeds(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """Return rows of the signals noisy and each label, with the scores of an utterance averaged over seeds."""
    first = next(iter(groups.values()))[0]
    names = shared_scores(groups)
    rows = [_select(row, names, "noisy") for row in first.rows_of("noisy").values()]
    for label, group in groups.items():
        seeds = [run.rows_of("enhanced") for run in group]
        for key, row in seeds[0].items():
            averages = {name: mean([seed[key][name] for seed in seeds]) for name in names}
            rows.append(_select(row, names, label) | averages)
    return rows


def first_runs(groups: Mapping[str, Sequence[Run]]) -> dict[str, Sequence[Run]]:
    """Return the groups with only their first run, the one to listen to."""
    return {label: group[:1] for label, group in groups.items()}


def shared_scores(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the scores that all runs have, in the order of tables."""
    return [name for name in ALL_SCORES if all(name in run.rows[0] for group in groups.values() for run in group)]


def seed_spread(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation over seeds of the runs' averages, for each label with several seeds."""
    spread = []
    for label, group in groups.items():
        if len(group) > 1:
            row: dict[str, Any] = {"loss": label, "seeds": len(group)}
            for name in shared_scores(groups):
                averages = [
                    mean([r[name] for r in run.rows_of("enhanced").values() if not math.isnan(r[name])])
                    for run in group
                ]
                row |= {f"{name}_mean": mean(averages), f"{name}_std": float(np.std(averages, ddof=1))}
            spread.append(row)
    return spread


def find_differences(
    rows: Sequence[Row], baseline: str, names: Sequence[str], groups: Mapping[str, Sequence[Run]] | None = None
) -> list[dict[str, Any]]:
    """Return the differences of signals from the baseline in each score, on the whole grid and each noise type.

    `p_corrected` accounts for all of these comparisons; `verdict` is about these trained networks. With two or
    more seeds in `groups`, the columns seed_… hold the same for the losses, that is, for other seeds as well.
    """
    signals = [s for s in dict.fromkeys(row["signal"] for row in rows) if s not in ("noisy", baseline)]
    noises = [EVERYWHERE, *dict.fromkeys(row["noise_type"] for row in rows)]
    clean = {utterance_key(row): row["clean"] for row in rows}
    of_seeds = {label: [run.rows_of("enhanced") for run in group] for label, group in (groups or {}).items()}
    found = []
    for name in names:
        for signal in signals:
            complete = complete_utterances(rows, name, (signal, baseline))
            for noise in noises:
                keys = [key for key in complete if noise in (EVERYWHERE, key[0])]
                if not keys:
                    continue
                spoken = np.array([clean[key] for key in keys])
                values = np.array([complete[key][signal] - complete[key][baseline] for key in keys])
                row = {"signal": signal, "baseline": baseline, "score": name, "noise_type": noise}
                row |= _columns(paired_difference(values, spoken), EQUAL[name])
                if all(len(of_seeds.get(one, ())) > 1 for one in (signal, baseline)):
                    pair = (
                        np.array([[run[key][name] for key in keys] for run in of_seeds[s]])
                        for s in (signal, baseline)
                    )
                    of_losses = _columns(seed_difference(*pair, spoken), EQUAL[name])
                    row |= {f"seed_{key}": of_losses[key] for key in ("low", "high", "p", "equal")}
                found.append(row)
    for prefix in ("", "seed_"):
        judged = [row for row in found if f"{prefix}p" in row]
        for row, p in zip(judged, correct([row[f"{prefix}p"] for row in judged]), strict=True):
            row[f"{prefix}p_corrected"] = float(p)
            row[f"{prefix}verdict"] = verdict(row["difference"], float(p), row[f"{prefix}equal"])
    return found


def verdict(difference: float, p: float, equal: bool) -> str:
    """Return better, worse, about equal or not distinguishable, for a score in which higher is better."""
    if p < LEVEL:
        return "better" if difference > 0 else "worse"
    return "about equal" if equal else "not distinguishable"


def own_scores(loss: str) -> list[str]:
    """Return the scores that the terms of a loss approximate."""
    return [name for term in loss.split("+") for name in OWN_METRICS.get(term.rpartition("*")[2], ())]


def _noisy_scores(run: Run) -> dict[tuple, list[float]]:
    return {key: [row[name] for name in MAIN_SCORES] for key, row in run.rows_of("noisy").items()}


def _columns(result: Difference, bound: float) -> dict[str, Any]:
    columns = {"utterances": result.utterances, "independent": result.independent, "difference": result.mean}
    columns |= {"low": result.low, "high": result.high, "p": result.p}
    return columns | {"equal_within": bound, "equal": result.is_within(bound)}


def _select(row: Row, names: Sequence[str], signal: str) -> dict[str, Any]:
    place = {key: row[key] for key in ("noise_type", "snr_db", "utterance", "clean")}
    return place | {"signal": signal} | {name: row[name] for name in names}
