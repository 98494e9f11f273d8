"""Report on loss terms: value and gradient over SNR, correlation with scores, cost.

    python -m tools.loss_report --data data/mycorpus
    python -m tools.loss_report --data data/mycorpus --runs DCCRN_SI-SNR DCCRN_MSE+LMS  # enhanced speech as well

Uses the mixtures of the test grid; writes results/<name>/report.md, values.csv and figures.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from config import PRESETS, SAMPLE_RATE, Config, Device, FolderName, Threads
from dataloader import PackedDataset, build_loader
from losses import TERMS, LossTerm, known_terms
from losses.names import parse_loss
from models import build_model, load_model
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import find_device, use_threads
from tools.common.errors import UserError
from tools.common.files import write_csv, write_text
from tools.common.run_folder import find_run, test_folder
from tools.reports.figures import save_figure
from tools.reports.loss_figures import correlation_map, cost_bars, curves_over_snr
from tools.reports.loss_measures import measure_costs, term_step, values_and_gradients
from tools.reports.tables import TITLES, markdown_table, plain_text
from tools.scoring.kept_scores import ENHANCED, NOISY, KeptScores, score_lacking

SHOWN = ("pesq", "stoi", "si_sdr")
EQUAL_SNR = "PESQ at one SNR"
NETWORK = "one step of the full network"
SECONDS = 3  # of an utterance whose cost is measured


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """What to report."""

    data: str
    """Folder of a packed data set; its test grid is used."""
    runs: tuple[str, ...] = ()
    """Runs whose networks enhance the mixtures, folders or names in runs/; their output is measured as well."""
    terms: tuple[str, ...] = ()
    """Terms to report; all by default."""
    utterances: int = 20
    """Utterances of each noise type and dB, 1 or more."""
    name: FolderName = "losses"
    """The report goes to results/<name>/."""
    device: Device = "auto"
    """Where to compute: auto, cpu, cuda or cuda:<number>."""
    threads: Threads = "auto"
    """Threads that compute on a CPU; auto: OMP_NUM_THREADS, else one for each core."""
    batch_size: int = 4
    """Utterances at once, in the measurement of cost as well; 1 or more."""


def report(settings: ReportSettings) -> None:
    """Measure the terms and write results/<name>/."""
    if settings.utterances < 1 or settings.batch_size < 1:
        raise UserError("utterances, batch_size: expected 1 or more")
    device = find_device(settings.device)
    use_threads(settings.threads)
    terms, missing = build_terms(settings.terms, device)
    grid = PackedDataset(settings.data, "test")
    numbers = [n for n in range(len(grid)) if grid.cell(n)[2] < settings.utterances]
    checkpoints = {"noisy": None} | {name: find_checkpoint(name) for name in settings.runs}

    rows = []
    for signal, checkpoint in checkpoints.items():
        rows += judge(signal, checkpoint, settings, grid, numbers, terms, device)
    costs = measure_terms(terms, settings.batch_size, device)

    folder = Path("results") / settings.name
    write_csv(folder / "values.csv", rows)
    values = pd.DataFrame(rows)
    for what in ("value", "gradient"):
        save_figure(curves_over_snr(values, list(terms), what), folder, f"{what}s")
    agreement = {}
    for title, signals in signal_groups(settings.runs).items():
        chosen = values[values["signal"].isin(signals)]
        agreement[f"{title}, {len(chosen)} signals"] = agree(chosen, list(terms))
    for name, (title, found) in zip(("correlation", "correlation_enhanced"), agreement.items(), strict=False):
        save_figure(correlation_map(found["spearman"], f"Spearman, {title}"), folder, name)
    shares = (costs / costs.loc[NETWORK]).drop(NETWORK)
    save_figure(cost_bars(shares.rename(columns={"seconds": "time", "kept": "memory kept"})), folder, "cost")
    text = compose(settings, values, list(terms), agreement, costs, missing)
    write_text(folder / "report.md", text)
    print(plain_text(text))
    print(f"Tables, values and figures are in {folder}")


def build_terms(names: Sequence[str], device: torch.device) -> tuple[dict[str, LossTerm], list[str]]:
    """Return the named terms, or all whose packages are installed, and a line on each one left out."""
    terms, missing = {}, []
    for name in names or known_terms(perceptual=False) + known_terms(perceptual=True):
        parse_loss(name)
        if name not in TERMS:
            raise UserError(f"terms: found {name!r}, expected single terms without weights, such as LMS")
        try:
            terms[name] = TERMS[name]().to(device)
        except UserError as error:
            if names:
                raise
            missing.append(f"{name} is left out: {str(error).removeprefix('loss: ')}.")
    return terms, missing


def find_checkpoint(run: str) -> Path:
    """Return best.pt of a run, given its folder or name. Raises UserError if it does not exist."""
    folder = find_run(run)
    if not (folder / "best.pt").is_file():
        raise UserError(
            f"{folder / 'best.pt'}: no such checkpoint; train the run first, or name another in --runs"
        )
    return folder / "best.pt"


def judge(
    signal: str,
    checkpoint: Path | None,
    settings: ReportSettings,
    grid: PackedDataset,
    numbers: Sequence[int],
    terms: Mapping[str, LossTerm],
    device: torch.device,
) -> list[dict[str, Any]]:
    """Return a row an item: place in the grid, signal, value_<term>, gradient_<term> and scores.

    The signal is the mixture, or the output of the checkpoint's network. Its scores are kept where test.py keeps
    them.
    """
    enhance = load_model(checkpoint, device) if checkpoint else lambda noisy: noisy
    folder = test_folder(checkpoint.parent, settings.data) if checkpoint else Path(settings.data)
    scores = KeptScores(folder / (ENHANCED if checkpoint else NOISY), grid.path, SHOWN, checkpoint)
    config = Config(data=settings.data, batch_size=settings.batch_size, device=settings.device)
    loader = build_loader(config, "test", device, numbers)
    rows: dict[int, dict[str, Any]] = {}

    def items() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for noisy, clean, batch in tqdm(loader, signal, leave=False, disable=None):
            with torch.no_grad():
                estimate = enhance(noisy.to(device))  # [B, samples]
            measured = _value_rows(terms, estimate, clean, noisy)
            for item, row, *pair in zip(
                batch.tolist(), measured, clean.numpy(), estimate.cpu().numpy(), strict=True
            ):
                place = dict(zip(("noise_type", "snr_db", "utterance"), grid.cell(item), strict=True))
                rows[item] = place | {"signal": signal} | row
                yield item, dict(zip(("clean", signal), pair, strict=True))

    score_lacking({signal: scores}, items(), sum(bool(scores.lacking(number)) for number in numbers))
    for item, row in rows.items():
        row |= {name: scores[item].values[name] for name in SHOWN}
    return list(rows.values())


def _value_rows(
    terms: Mapping[str, LossTerm], estimate: Tensor, clean: Tensor, noisy: Tensor
) -> list[dict[str, float]]:
    device = estimate.device
    clean, noisy = clean.to(device), noisy.to(device)
    rows: list[dict[str, float]] = [{} for _ in clean]
    for name, term in terms.items():
        for row, value, gradient in zip(rows, *values_and_gradients(term, estimate, clean, noisy), strict=True):
            row |= {f"value_{name}": value, f"gradient_{name}": gradient}
    return rows


def measure_terms(terms: Mapping[str, LossTerm], batch_size: int, device: torch.device) -> pd.DataFrame:
    """Return the cost of forward and backward of each term and of the full network, for a batch of noise."""
    clean, noise = torch.randn(2, batch_size, SECONDS * SAMPLE_RATE, device=device) * 0.05
    noisy = clean + noise
    model = build_model(Config(**PRESETS["paper"])).to(device).train()
    steps = {NETWORK: lambda: model(noisy).mean()}  # without a loss term
    steps |= {name: term_step(term, noisy, clean, noisy) for name, term in terms.items()}
    return measure_costs(steps, device)


def signal_groups(runs: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return the signals of each table of correlations, by title."""
    return {"mixtures": ("noisy",)} | ({f"enhanced by {', '.join(runs)}": runs} if runs else {})


def agree(values: pd.DataFrame, terms: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return Spearman's and Pearson's correlations, a row a term, over the items that have both values.

    Columns: with each score, and with PESQ at one SNR, averaged over SNRs. NaN if undefined.
    """
    columns = [f"value_{term}" for term in terms]

    def correlate(items: pd.DataFrame, kind: Literal["spearman", "pearson"]) -> pd.DataFrame:
        return items[[*columns, *SHOWN]].corr(kind, min_periods=3).loc[columns, list(SHOWN)]

    found = {}
    for kind in ("spearman", "pearson"):
        table = correlate(values, kind)
        at_one_snr = [correlate(items, kind)["pesq"] for _, items in values.groupby("snr_db")]
        table[EQUAL_SNR] = pd.concat(at_one_snr, axis=1).mean(axis=1)
        found[kind] = table.set_axis(terms).rename(columns={score: TITLES[score][0] for score in SHOWN})
    return found


def compose(
    settings: ReportSettings,
    values: pd.DataFrame,
    terms: Sequence[str],
    agreement: Mapping[str, Mapping[str, pd.DataFrame]],
    costs: pd.DataFrame,
    missing: Sequence[str],
) -> str:
    """Return the report as Markdown."""
    parts = ["# Loss terms", f"{settings.data}, {settings.utterances} utterances of each noise type and dB."]
    parts += missing
    for title, found in agreement.items():
        parts.append(f"## Agreement with scores: {title}")
        parts.append("Spearman / Pearson; −1 is best. At one SNR: among signals of equal SNR, mean over SNRs.")
        parts.append(_markdown(found["spearman"].map(_signed) + " / " + found["pearson"].map(_signed)))
    for what, title in (("value", "Value"), ("gradient", "Norm of the gradient at the estimate")):
        medians = values.groupby(["signal", "snr_db"])[[f"{what}_{term}" for term in terms]].median()
        for signal in ("noisy", *settings.runs):
            parts.append(f"## {title} over SNR: {signal}, median")
            table = medians.loc[signal].set_axis(terms, axis="columns").T
            parts.append(_markdown(table.map("{:.3g}".format).rename(columns="{:g} dB".format)))
    parts.append(f"## Cost of forward and backward, batch {settings.batch_size} × {SECONDS} s")
    network = costs.loc[NETWORK]
    parts.append(
        f"{NETWORK.capitalize()}: {network.seconds:.2f} s, {network.kept / 1e6:.0f} MB kept for the backward "
        "pass. On a CPU, processor time."
    )
    table = {
        term: [
            *(f"{1000 * cost.seconds:.0f}", f"{cost.seconds / network.seconds:.1%}"),
            *(f"{cost.kept / 1e6:.0f}", f"{cost.kept / network.kept:.1%}"),
        ]
        for term, cost in costs.drop(NETWORK).iterrows()
    }
    parts.append(markdown_table("term", ["ms", "of the network's", "MB kept", "of the network's"], table))
    return "\n\n".join(parts) + "\n"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _markdown(texts: pd.DataFrame) -> str:
    return markdown_table("term", list(texts), texts.T.to_dict("list"))


def main() -> None:
    report(parse_arguments(ReportSettings, __doc__))


if __name__ == "__main__":
    run_command(main)
