"""Tested runs in one table of scores, the differences between their losses, and the choice of learning rates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from config import MAY_DIFFER, Config
from tools.common.errors import UserError
from tools.common.run_folder import find_run, read_config, scores_file
from tools.reports.significance import LEVEL, correct, paired_difference, pool_seeds, seed_difference
from tools.scoring.scores import METRICS
from tools.scoring.suspect import find_suspect

SIGNALS = ("noisy", "enhanced")
DRAWN = ("talker", "noise")  # what an utterance shares with others
CELL = ["noise_type", "snr_db"]
UTTERANCE = [*CELL, "utterance"]
MAIN = ("pesq", "stoi", "estoi", "si_sdr")  # PESQ alone can mislead
FEW = 10  # talkers; fewer allow no conclusions
EVERYWHERE = "all"  # noise type of differences over the whole grid
# The scores that a loss term approximates: improving them alone says little about what a listener hears.
OWN_METRICS = {"STOI": ("stoi",), "DistillMOS": ("distillmos",)}
OWN_METRICS |= dict.fromkeys(("ESTOI", "metric-GAN-ESTOI"), ("estoi",))
# FastEnhancer and GTCRN are combinations with such a term.
OWN_METRICS |= dict.fromkeys(("PMSQE", "PESQ", "metric-GAN", "FastEnhancer"), ("pesq", "pesq_nb"))
OWN_METRICS |= dict.fromkeys(("SI-SDR", "SI-SNR", "signed-SI-SNR", "SDR", "SNR", "GTCRN"), ("si_sdr",))
VALIDATED = ("pesq", "estoi", "si_sdr")  # choose a learning rate


@dataclass(frozen=True)
class Run:
    """A tested run, or the tested outputs of another system.

    settings: those that define the experiment; the loss, or the system's name, labels it.
    data: name of the set that it was tested on.
    """

    folder: Path
    settings: Mapping[str, Any]
    seed: int
    scores: pd.DataFrame
    data: str = ""


def read_run(name: str, data: str = "") -> Run:
    """Return a run, given its folder or name. data: the set that it was tested on, if there are several.

    Raises UserError if its best.pt was not tested.
    """
    folder = find_run(name)
    path = scores_file(folder, data)
    if not (folder / "config.json").is_file():
        return Run(folder, {"loss": folder.name}, 0, read_scores(path), path.parent.name)
    config = read_config(folder)
    return Run(folder, experiment(config), config.seed, read_scores(path), path.parent.name)


def experiment(config: Config) -> dict[str, Any]:
    """Return the settings that define an experiment, whose seeds and machines may differ."""
    return {key: value for key, value in config.flat().items() if key not in MAY_DIFFER["seeds"]}


def read_scores(path: Path) -> pd.DataFrame:
    """Return utterance, signal and metrics of the rows of a scores.csv, and what is known of speech and noise."""
    return parse_scores(pd.read_csv(path, dtype=str, keep_default_na=False), path)


def parse_scores(texts: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return what `read_scores` does, of the texts in a file.

    Earlier versions called clean_id clean, or lacked it: then the number of the utterance takes its place.
    """
    try:
        texts = texts.rename(columns={"clean": "clean_id"})
        scores = texts[[*UTTERANCE, "signal"]].astype({"snr_db": float, "utterance": int})
        scores["clean_id"] = texts.get("clean_id", texts["utterance"]).astype(int)
        scores = scores.assign(**{name: texts.get(name, "") for name in (*DRAWN, "reference")})
        numbers = [*metrics_of(texts), *texts.columns.intersection(["words"])]
        scores[numbers] = texts[numbers].replace("", "nan").astype(float)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not the scores of a test ({error}); test the run again") from None
    return scores.assign(suspect=find_suspect(scores))


def label_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs by label, seeds of one experiment together; a label is the loss and differing settings."""
    experiments: dict[str, list[Run]] = {}
    for run in runs:
        experiments.setdefault(str(run.settings), []).append(run)
    labelled = {}
    for group in experiments.values():
        if len({run.seed for run in group}) < len(group):
            raise UserError(f"{group[-1].folder}: the same experiment and seed is named twice; name each run once")
        own = group[0].settings
        rivals = [other[0].settings for other in experiments.values() if other[0].settings["loss"] == own["loss"]]
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
    noisy = [run.scores[run.scores["signal"] == "noisy"] for run in runs]
    known = first_known(pd.concat(noisy))
    expected = known.set_index(UTTERANCE)[metrics]
    for run, own in zip(runs, noisy, strict=True):
        own = own.set_index(UTTERANCE)[metrics]
        if not own.index.equals(expected.index) or ((own - expected).abs() > 1e-3).any(axis=None):
            raise UserError(
                f"{run.folder}: was tested on other data than {runs[0].folder} (the scores of the noisy speech "
                "differ); test both on the same --data"
            )
    parts = [known.assign(seed=runs[0].seed)]
    for label, group in labelled.items():
        for run in group:
            parts.append(run.scores[run.scores["signal"] == "enhanced"].assign(signal=label, seed=run.seed))
    of_words = ["words", "reference"] if "wer" in metrics else []
    columns = [*UTTERANCE, "clean_id", *DRAWN, "signal", "seed", *metrics, *of_words, "suspect"]
    return pd.concat(parts, ignore_index=True)[columns]


def first_known(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each utterance and signal, with the first known value of each column."""
    known = scores.where(scores != "").groupby([*UTTERANCE, "signal"], as_index=False, sort=False).first()
    return known.fillna(dict.fromkeys(scores.select_dtypes(exclude="number"), ""))


def metrics_of(scores: pd.DataFrame) -> list[str]:
    """Return the metrics that a table of scores has, in the order of tables."""
    return [name for name in METRICS if name in scores]


def by_seed(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric as [utterances, (signal, seed)]; NaN for all if an utterance lacks it for one of them.

    Seeds that were not scored in a slow metric are left out of it, if others of the signal were.
    """
    table = scores.pivot(index=UTTERANCE, columns=["signal", "seed"], values=metric)
    index, columns = (
        pd.MultiIndex.from_frame(scores[names].drop_duplicates()) for names in (UTTERANCE, ["signal", "seed"])
    )
    table = table.reindex(index=index, columns=columns)
    if METRICS[metric].packages:
        scored = table.notna().any()
        table = table.loc[:, scored | ~scored.groupby(level="signal").transform("any")]
    return table.where(table.notna().all(axis=1), axis=0)


def by_signal(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric, averaged over seeds, as [utterances, signals]; NaN as in `by_seed`."""
    return by_seed(scores, metric).T.groupby(level="signal", sort=False).mean().T


def per_utterance(values: pd.DataFrame, scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return values of a metric [utterances, columns] whose plain means the tables show; without rows of NaN.

    Word errors need it, as they are pooled: their mean counts each word once, and their spread is that of its
    error, by Taylor linearisation of a ratio (Cochran, Sampling Techniques, 1977, 6.4). scores: tells the words of
    utterances.
    """
    values = values.dropna()
    if metric != "wer":
        return values
    index = list(values.index.names)
    known = scores.dropna(subset="words").drop_duplicates(index)  # not all seeds are scored
    words = known.set_index(index)["words"].loc[values.index]
    rate = values.mul(words, axis=0).sum() / words.sum()
    return (values - rate).mul(words / words.mean(), axis=0) + rate


def drawn_with(scores: pd.DataFrame) -> pd.DataFrame:
    """Return talker, or else clean recording, and noise recording, if it is known, of each utterance."""
    drawn = scores.drop_duplicates(UTTERANCE).set_index(UTTERANCE)
    talkers, noises = ((drawn[name] != "").all() for name in DRAWN)
    ways = {"talkers": drawn["talker"]} if talkers else {"clean recordings": drawn["clean_id"]}
    return pd.DataFrame(ways | ({"noise recordings": drawn["noise"]} if noises else {}))


def find_differences(scores: pd.DataFrame, baseline: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the differences of signals from the baseline in each metric, on the whole grid and each noise type.

    `p_corrected` accounts for all of these comparisons; `verdict` is about these trained networks. The columns
    seed_… hold the same for the losses, that is, for other seeds as well; empty without two seeds of both. Fewer
    than ten talkers have differences only.
    """
    signals = [signal for signal in scores["signal"].unique() if signal not in ("noisy", baseline)]
    drawn, found = drawn_with(scores), []
    for metric in tqdm(metrics, "comparing", leave=False, disable=None):
        runs = by_seed(scores[scores["signal"] != "noisy"], metric).dropna()
        for signal in signals:
            whole = by_seed(scores[scores["signal"].isin([signal, baseline])], metric).dropna()
            parts = {EVERYWHERE: whole, **dict(iter(whole.groupby(level="noise_type", sort=False)))}
            for noise_type, values in parts.items():
                row = {"signal": signal, "baseline": baseline, "metric": metric, "noise_type": noise_type}
                if len(values):
                    seeds = per_utterance(runs.loc[runs.index.isin(values.index)], scores, metric).mean()
                    values = per_utterance(values, scores, metric)
                    found.append(row | _compare(values, signal, baseline, metric, drawn.loc[values.index], seeds))
    if not found:
        raise UserError(
            "no utterance has a score of all signals; the column missing of scores.csv names the reasons"
        )
    differences = pd.DataFrame(found).astype(object)
    for prefix in ("", "seed_"):
        if f"{prefix}p" in differences:
            p = differences[f"{prefix}p"].dropna()
            differences.loc[p.index, f"{prefix}p_corrected"] = correct(p.to_numpy(float))
            verdicts = [_verdict(row, prefix) for row in differences.loc[p.index].to_dict("records")]
            differences.loc[p.index, f"{prefix}verdict"] = verdicts
    return differences


def _compare(
    values: pd.DataFrame, signal: str, baseline: str, metric: str, drawn: pd.DataFrame, seeds: pd.Series
) -> dict[str, Any]:
    """Return the columns of `find_differences` for one comparison.

    values: [utterances, (signal, seed)]. drawn: what the utterances were drawn with. seeds: mean of each run, by
    signal and seed.
    """
    own, other = (values[name].to_numpy().T for name in (signal, baseline))  # [seeds, utterances]
    row = {"utterances": len(values)} | drawn.nunique().to_dict()
    row |= {"difference": (own.mean(0) - other.mean(0)).mean(), "equal_within": METRICS[metric].equal}
    if drawn.iloc[:, 0].nunique() < FEW:
        return row | dict.fromkeys(("low", "high", "p", "verdict"), math.nan)
    ways = [drawn[way].to_numpy() for way in drawn]
    results = {"": paired_difference(own.mean(0) - other.mean(0), *ways)}
    if min(len(own), len(other)) > 1:
        pooled = pool_seeds([means.to_numpy() for _, means in seeds.groupby(level="signal")])
        results["seed_"] = seed_difference(own, other, *ways, pooled=pooled)
        row["seeds_pooled"] = pooled is not None
    for prefix, result in results.items():
        columns = {"low": result.low, "high": result.high, "p": result.p}
        columns["equal"] = result.is_within(row["equal_within"])
        row |= {f"{prefix}{name}": value for name, value in columns.items()}
    return row


def rank_stability(
    labelled: Mapping[str, Sequence[Run]], scores: pd.DataFrame, metrics: Sequence[str]
) -> list[str]:
    """Return a sentence on how alike the order of three or more losses is between networks, scores and seeds."""
    trained = {label: runs[0].settings for label, runs in labelled.items() if "model" in runs[0].settings}
    own = scores[scores["signal"].isin(list(trained))]
    values = own.melt(["signal", "seed"], list(metrics), "metric").dropna()
    values["value"] *= values["metric"].map({name: METRICS[name].sign for name in metrics})
    values["loss"] = [trained[label]["loss"] for label in values["signal"]]
    values["network"] = [trained[label]["model"] for label in values["signal"]]
    agreements = []
    for way, fixed in (("network", ["metric"]), ("seed", ["metric", "network"]), ("metric", [])):
        table = values.pivot_table("value", ["loss", *fixed], way).dropna()
        groups = [part for _, part in table.groupby(fixed)] if fixed else [table]
        taus = [tau for part in groups if len(part) > 2 for tau in _upper(part.corr("kendall").to_numpy())]
        if taus:
            agreements.append(f"{np.nanmean(taus):.2f} between {way}s")
    if not agreements:
        return []
    return [f"Order of the losses, Kendall's τ (1: the same, 0: unrelated): {', '.join(agreements)}."]


def own_metrics(loss: str) -> list[str]:
    """Return the metrics that the terms of a loss approximate."""
    return [name for term in loss.split("+") for name in OWN_METRICS.get(term.rpartition("*")[2], ())]


def choose_rate(loss: str, histories: Mapping[float, pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each learning rate of a loss: its last validation scores, and whether it is chosen.

    histories: history.csv by learning rate. The best mean rank in the scores is chosen, of equal ones the lowest
    rate, as short trainings favour high ones; the rule is the same for all losses, also for those that approximate
    one of the scores. Losses should be compared with a rate tuned for each: Kolbæk et al., IEEE/ACM TASLP 28,
    2020. Raises UserError if a score was not validated.
    """
    names = [f"valid_{name}" for name in VALIDATED]
    last = pd.DataFrame({rate: history.iloc[-1].reindex(names) for rate, history in sorted(histories.items())}).T
    rates = last.set_axis(VALIDATED, axis="columns").rename_axis("learning_rate").reset_index()
    if rates.isna().any(axis=None):
        raise UserError(
            f"tune: the validation of {loss} lacks one of {', '.join(VALIDATED)}, which choose its learning rate; "
            "train with --valid_scores above 0 and these in --valid_metrics"
        )
    rates.insert(0, "loss", loss)
    ranks = rates[list(VALIDATED)].rank(ascending=False).mean(axis=1)
    return rates.assign(chosen=ranks.index == ranks.idxmin())


def _upper(matrix: np.ndarray) -> np.ndarray:
    """Return the values above the diagonal of a matrix."""
    return matrix[np.triu_indices(len(matrix), 1)]


def _verdict(row: Mapping[str, Any], prefix: str) -> str:
    """Return better, worse, about equal or not distinguishable."""
    if row[f"{prefix}p_corrected"] < LEVEL:
        return "better" if row["difference"] * METRICS[row["metric"]].sign > 0 else "worse"
    return "about equal" if row[f"{prefix}equal"] else "not distinguishable"
