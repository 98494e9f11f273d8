"""Tested runs in one table of scores, the differences between their losses, and the choice of learning rates."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from config import MAY_DIFFER, Config
from tools.common.errors import UserError
from tools.common.run_folder import find_run, read_config, scores_file
from tools.reports.significance import LEVEL, Difference, correct, paired_difference, seed_difference
from tools.scoring.scores import METRICS
from tools.scoring.suspect import find_suspect

SIGNALS = ("noisy", "enhanced")
CELL = ["noise_type", "snr_db"]
UTTERANCE = [*CELL, "utterance"]
MAIN = ("pesq", "stoi", "estoi", "si_sdr")  # PESQ alone can mislead
EVERYWHERE = "all"  # noise type of differences over the whole grid
# The scores that a loss term approximates: improving them alone says little about what a listener hears.
OWN_METRICS = {"PMSQE": ("pesq", "pesq_nb"), "PESQ": ("pesq", "pesq_nb"), "STOI": ("stoi",), "ESTOI": ("estoi",)}
OWN_METRICS |= dict.fromkeys(("SI-SDR", "SI-SNR", "signed-SI-SNR", "SDR", "SNR"), ("si_sdr",))
VALIDATED = ("pesq", "estoi", "si_sdr")  # choose a learning rate


@dataclass(frozen=True)
class Run:
    """A tested run: its folder, settings and scores, and the name of the set that it was tested on."""

    folder: Path
    config: Config
    scores: pd.DataFrame
    data: str = ""


def read_run(name: str, data: str = "") -> Run:
    """Return a run, given its folder or name. data: the set that it was tested on, if there are several.

    Raises UserError if its best.pt was not tested.
    """
    folder = find_run(name)
    path = scores_file(folder, data)
    return Run(folder, read_config(folder), read_scores(path), path.parent.name)


def read_scores(path: Path) -> pd.DataFrame:
    """Return cell, utterance, signal, metrics and clean_id of the rows of a scores.csv.

    Earlier versions called clean_id clean, or lacked it: then the number of the utterance takes its place.
    """
    try:
        texts = pd.read_csv(path, dtype=str, keep_default_na=False).rename(columns={"clean": "clean_id"})
        texts = texts if "clean_id" in texts else texts.assign(clean_id=texts["utterance"])
        kinds = dict.fromkeys(("snr_db", *metrics_of(texts)), float) | {"utterance": int, "clean_id": int}
        return texts[[*UTTERANCE, "signal", *metrics_of(texts), "clean_id"]].replace("", "nan").astype(kinds)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not the scores of a test ({error}); test the run again") from None


def label_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs by label, seeds of one experiment together; a label is the loss and differing settings."""
    experiments: dict[str, list[Run]] = {}
    for run in runs:
        experiments.setdefault(str(_settings(run)), []).append(run)
    labelled = {}
    for group in experiments.values():
        if len({run.config.seed for run in group}) < len(group):
            raise UserError(f"{group[-1].folder}: the same experiment and seed is named twice; name each run once")
        own = _settings(group[0])
        rivals = [_settings(other[0]) for other in experiments.values() if other[0].config.loss == own["loss"]]
        differing = [key for key in own if any(rival.get(key) != own[key] for rival in rivals)]
        details = ", ".join(f"{key} {own[key]}" for key in differing)
        labelled[own["loss"] + (f" ({details})" if details else "")] = group
    return labelled


def join_scores(labelled: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Return the scores of runs in one table: `signal` is noisy or a label, `seed` that of the run.

    It has the metrics that all runs share. Raises UserError unless all were tested on the same data, that is, have
    the same scores of the noisy speech.
    """
    runs = [run for group in labelled.values() for run in group]
    metrics = [name for name in METRICS if all(name in run.scores for run in runs)]
    rows = {}
    for run in runs:
        scores = run.scores.assign(seed=run.config.seed, suspect=find_suspect(run.scores))
        scores = scores[[*UTTERANCE, "clean_id", "signal", "seed", *metrics, "suspect"]]
        rows[run.folder] = {signal: own.reset_index(drop=True) for signal, own in scores.groupby("signal")}
    noisy = rows[runs[0].folder]["noisy"]
    for folder, own in rows.items():
        other = own["noisy"]
        if not other[UTTERANCE].equals(noisy[UTTERANCE]) or not np.allclose(
            other[metrics], noisy[metrics], atol=1e-3, equal_nan=True
        ):
            raise UserError(
                f"{folder}: was tested on other data than {runs[0].folder} (the scores of the noisy speech "
                "differ); test both on the same --data"
            )
    enhanced = [
        rows[run.folder]["enhanced"].assign(signal=label) for label, group in labelled.items() for run in group
    ]
    return pd.concat([noisy, *enhanced], ignore_index=True)


def metrics_of(scores: pd.DataFrame) -> list[str]:
    """Return the metrics that a table of scores has, in the order of tables."""
    return [name for name in METRICS if name in scores]


def by_seed(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric as [utterances, (signal, seed)]; NaN for all if an utterance lacks it for one of them."""
    table = scores.pivot(index=UTTERANCE, columns=["signal", "seed"], values=metric)
    index, columns = (
        pd.MultiIndex.from_frame(scores[names].drop_duplicates()) for names in (UTTERANCE, ["signal", "seed"])
    )
    table = table.reindex(index=index, columns=columns)
    return table.where(table.notna().all(axis=1), axis=0)


def by_signal(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric, averaged over seeds, as [utterances, signals]; NaN as in `by_seed`."""
    return by_seed(scores, metric).T.groupby(level="signal", sort=False).mean().T


def find_differences(scores: pd.DataFrame, baseline: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the differences of signals from the baseline in each metric, on the whole grid and each noise type.

    `p_corrected` accounts for all of these comparisons; `verdict` is about these trained networks. The columns
    seed_… hold the same for the losses, that is, for other seeds as well; empty without two seeds of both.
    """
    signals = [signal for signal in scores["signal"].unique() if signal not in ("noisy", baseline)]
    clean_id = scores.groupby(UTTERANCE)["clean_id"].last()
    found = []
    for metric, signal in itertools.product(metrics, signals):
        whole = by_seed(scores[scores["signal"].isin([signal, baseline])], metric).dropna()
        parts = {EVERYWHERE: whole, **dict(iter(whole.groupby(level="noise_type", sort=False)))}
        for noise_type, values in parts.items():
            if values.empty:
                continue
            clusters = clean_id.loc[values.index].to_numpy()
            own, other = (values[name].to_numpy().T for name in (signal, baseline))  # [seeds, utterances]
            row = {"signal": signal, "baseline": baseline, "metric": metric, "noise_type": noise_type}
            row |= _columns(paired_difference(own.mean(0) - other.mean(0), clusters), metric)
            if min(len(own), len(other)) > 1:
                over_seeds = _columns(seed_difference(own, other, clusters), metric)
                row |= {f"seed_{name}": over_seeds[name] for name in ("low", "high", "p", "equal")}
            found.append(row)
    differences = pd.DataFrame(found).astype(object)
    for prefix in ("", "seed_"):
        if f"{prefix}p" in differences:
            p = differences[f"{prefix}p"].dropna()
            differences.loc[p.index, f"{prefix}p_corrected"] = correct(p.to_numpy(float))
            verdicts = [_verdict(row, prefix) for row in differences.loc[p.index].to_dict("records")]
            differences.loc[p.index, f"{prefix}verdict"] = verdicts
    return differences


def own_metrics(loss: str) -> list[str]:
    """Return the metrics that the terms of a loss approximate."""
    return [name for term in loss.split("+") for name in OWN_METRICS.get(term.rpartition("*")[2], ())]


def choose_rate(loss: str, histories: Mapping[float, pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each learning rate of a loss: its validation scores, its points, and whether it is chosen.

    histories: history.csv by learning rate. Points are the mean of the scores, each scaled from 0 (worst rate) to
    1 (best rate), without the loss's own metric. Losses should be compared with a rate tuned for each: Kolbæk et
    al., IEEE/ACM TASLP 28, 2020. Raises UserError if a score was not validated.
    """
    names = [f"valid_{name}" for name in VALIDATED]
    last = pd.DataFrame({rate: history.iloc[-1].reindex(names) for rate, history in sorted(histories.items())}).T
    rates = last.set_axis(VALIDATED, axis="columns").rename_axis("learning_rate").reset_index()
    rates.insert(0, "loss", loss)
    judges = [name for name in VALIDATED if name not in own_metrics(loss)]
    if rates[judges].isna().any(axis=None):
        raise UserError(
            f"tune: the validation of {loss} lacks one of {', '.join(judges)}, which choose its learning rate; "
            "train with --valid_scores above 0 and these in --valid_metrics"
        )
    low, high = rates[judges].min(), rates[judges].max()
    points = ((rates[judges] - low) / (high - low)).fillna(0).mean(axis=1)
    return rates.assign(judged_by=" ".join(judges), points=points, chosen=points.index == points.idxmax())


def read_rates(path: Path) -> pd.DataFrame:
    """Return the rows of a tuning.csv, results of `choose_rate`; UserError for another file."""
    rates = pd.read_csv(path)
    if missing := {"loss", "learning_rate", *VALIDATED, "judged_by", "points", "chosen"} - set(rates):
        raise UserError(f"{path}: no column {', '.join(sorted(missing))}; expected what tools.sweep --tune wrote")
    return rates


def at_the_edge(rates: pd.DataFrame) -> list[str]:
    """Return a sentence on the losses whose chosen rate is the lowest or highest one tried, if there are any."""
    tried = rates.groupby("loss")["learning_rate"].agg(["min", "max"])
    chosen = rates[rates["chosen"]].set_index("loss")["learning_rate"]
    edges = [f"{loss} ({rate:g})" for loss, rate in chosen.items() if rate in tried.loc[loss].to_numpy()]
    if not edges:
        return []
    return [
        f"Attention: the best rate may lie beyond those tried for {', '.join(edges)}; give more as --tune_rates."
    ]


def _settings(run: Run) -> dict[str, Any]:
    """Return the settings that define a run's experiment."""
    return {key: value for key, value in run.config.flat().items() if key not in MAY_DIFFER["seeds"]}


def _columns(result: Difference, metric: str) -> dict[str, Any]:
    bound = METRICS[metric].equal
    columns = {"utterances": result.utterances, "independent": result.independent, "difference": result.mean}
    columns |= {"low": result.low, "high": result.high, "p": result.p}
    return columns | {"equal_within": bound, "equal": result.is_within(bound)}


def _verdict(row: Mapping[str, Any], prefix: str) -> str:
    """Return better, worse, about equal or not distinguishable; higher is better in all metrics."""
    if row[f"{prefix}p_corrected"] < LEVEL:
        return "better" if row["difference"] > 0 else "worse"
    return "about equal" if row[f"{prefix}equal"] else "not distinguishable"
