"""Report on loss terms: value and gradient over SNR, correlation with scores.

    python -m tools.loss_report --data data/mycorpus
    python -m tools.loss_report --data data/mycorpus --runs DCCRN_SI-SNR DCCRN_MSE+LMS  # enhanced speech as well

Uses the mixtures of the test grid; writes results/<name>/report.md, values.csv and figures.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from config import Config, Device, FolderName, Threads
from dataloader import PackedDataset, build_loader
from losses import TERMS, LossTerm
from losses.registry import known_terms
from models import enhance_all, load_model
from tools.common.command_line import parse_arguments, run_command
from tools.common.device import find_device, use_threads
from tools.common.errors import UserError
from tools.common.files import write_csv, write_text
from tools.common.run_folder import find_run
from tools.reports.figures import save_figure
from tools.reports.tables import Table, markdown, terminal
from tools.scoring.scores import METRICS, ScorePool, installed_metrics

COLUMNS = 4  # of panels in a figure


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
    """Utterances of each noise type and dB."""
    metrics: tuple[str, ...] = ("pesq", "stoi", "si_sdr")
    """Scores to correlate with, pesq among them."""
    name: FolderName = "losses"
    """The report goes to results/<name>/."""
    device: Device = "auto"
    """Where to compute: auto, cpu, cuda or cuda:<number>."""
    threads: Threads = "auto"
    """Threads that compute on a CPU; auto: OMP_NUM_THREADS, else one for each core."""
    batch_size: int = 4
    """Utterances at once."""


def report(settings: ReportSettings) -> None:
    """Measure the terms and write results/<name>/."""
    device = find_device(settings.device)
    use_threads(settings.threads)
    metrics = installed_metrics(settings.metrics)
    terms, missing = build_terms(settings.terms, device)
    networks = {"noisy": nn.Identity()}
    networks |= {name: load_model(find_run(name) / "best.pt", device) for name in settings.runs}
    measured = [measure(signal, model, settings, terms, metrics, device) for signal, model in networks.items()]
    values = pd.concat(measured, ignore_index=True)
    parts = [
        "# Loss terms",
        f"{settings.data}, {settings.utterances} utterances of each noise type and dB.",
        *missing,
        "Rank correlations (Spearman): −1 is best. At one SNR: among signals of equal SNR, mean over SNRs.",
        *(
            agreement_table(f"Correlation with scores: {own['signal'].iloc[0]}", own, list(terms), metrics)
            for own in measured
        ),
    ]
    folder = Path("results") / settings.name
    write_csv(folder / "values.csv", values.to_dict("records"))
    for what in ("value", "gradient"):
        save_figure(curves_over_snr(values, list(terms), what), folder, f"{what}s")
    write_text(folder / "report.md", markdown(parts))
    print(terminal(parts))
    print(f"Tables, values and figures are in {folder}")


def build_terms(names: Sequence[str], device: torch.device) -> tuple[dict[str, LossTerm], list[str]]:
    """Return the named terms, or all whose packages are installed, and a line on each one left out."""
    terms, missing = {}, []
    for name in names or known_terms(perceptual=False) + known_terms(perceptual=True):
        if name not in TERMS:
            raise UserError(f"terms: found {name}, expected some of {', '.join(TERMS)}, without weights")
        try:
            terms[name] = TERMS[name]().to(device)
        except UserError as error:
            if names:
                raise
            missing.append(f"{name} is left out: {error}.")
    return terms, missing


def measure(
    signal: str,
    model: nn.Module,
    settings: ReportSettings,
    terms: Mapping[str, LossTerm],
    metrics: Sequence[str],
    device: torch.device,
) -> pd.DataFrame:
    """Return a row an item: cell, signal, value_<term>, gradient_<term> (the norm at the signal) and scores.

    The signal is the network's estimate; nn.Identity() gives the mixture.
    """
    grid = PackedDataset(settings.data, "test")
    numbers = [number for number in range(len(grid)) if grid.cell(number)[2] < settings.utterances]
    config = Config(data=settings.data, batch_size=settings.batch_size, device=settings.device)
    loader = tqdm(build_loader(config, "test", device, numbers), signal, leave=False, disable=None)
    rows = []

    def pairs_to_score() -> Iterator[tuple[np.ndarray, np.ndarray, Sequence[str]]]:
        for number, noisy, clean, estimate in enhance_all(model, loader):
            row = dict(zip(("noise_type", "snr_db", "utterance"), grid.cell(number), strict=True))
            tensors = [torch.from_numpy(waveform)[None].to(device) for waveform in (estimate, clean, noisy)]
            for name, term in terms.items():
                row[f"value_{name}"], row[f"gradient_{name}"] = value_and_gradient(term, *tensors)
            rows.append(row | {"signal": signal})
            yield clean, estimate, metrics

    with ScorePool() as pool:
        scores = [found.values for found in pool.map(pairs_to_score())]
    return pd.DataFrame(rows).join(pd.DataFrame(scores))


def value_and_gradient(term: LossTerm, estimate: Tensor, clean: Tensor, noisy: Tensor) -> tuple[float, float]:
    """Return the value of a term and the norm of its gradient at the estimate, all waveforms [1, samples]."""
    leaf = estimate.detach().requires_grad_()
    value = term(leaf, clean, noisy).sum()
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.item(), torch.linalg.vector_norm(gradient).item()


def agreement_table(title: str, values: pd.DataFrame, terms: Sequence[str], metrics: Sequence[str]) -> Table:
    """Return Spearman's correlations of terms with scores, and with PESQ at one SNR; – if undefined."""
    columns = [f"value_{term}" for term in terms]
    table = values[[*columns, *metrics]].corr("spearman", min_periods=3).loc[columns, list(metrics)]
    table = table.rename(columns={name: METRICS[name].title for name in metrics})
    of_snrs = [own[[*columns, "pesq"]].corr("spearman", min_periods=3) for _, own in values.groupby("snr_db")]
    table["PESQ at one SNR"] = pd.concat([own.loc[columns, "pesq"] for own in of_snrs], axis=1).mean(axis=1)
    return Table(title, table.map("{:+.2f}".format).replace("+nan", "–").set_axis(terms))


def curves_over_snr(values: pd.DataFrame, terms: Sequence[str], what: str) -> Figure:
    """Draw the median value or gradient, columns <what>_<term>, over the SNR: a panel a term, a line a signal."""
    lines = math.ceil(len(terms) / COLUMNS)
    figure = Figure((3.0 * COLUMNS, 2.2 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False).flat
    for term, panel in zip(terms, panels, strict=False):
        medians = values.pivot_table(f"{what}_{term}", "snr_db", "signal", "median", sort=False)
        medians.plot(ax=panel, title=term, xlabel="SNR of the noisy speech (dB)", marker=".", legend=False)
        panel.set(ylabel=what, yscale="log" if what == "gradient" else "linear")
    for panel in panels[len(terms) :]:
        panel.set_axis_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def main() -> None:
    report(parse_arguments(ReportSettings, __doc__))


if __name__ == "__main__":
    run_command(main)
