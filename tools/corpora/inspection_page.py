"""The findings of an inspection as text, and a page of spectrograms."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from config import SAMPLE_RATE
from tools.common.files import replacing
from tools.common.spectrograms import show_spectrogram, spectrogram
from tools.corpora.inspection import SPLITS, Dataset, Report, SplitReport, open_split

BAR = 40  # characters of the longest bar
BIN_DB = 5  # of the histogram, if there are too many labels for a line each
MANY_LABELS = 20
LISTED = 20  # faults that are printed


def describe(report: Report) -> Iterator[str]:
    """Yield the report, line by line."""
    for key in ("dtype", "seed", "licence", "command"):
        if report.head.get(key) not in (None, ""):
            yield f"{key}: {report.head[key]}"
    for split, found in report.splits.items():
        yield ""
        yield f"{split}: {list(found.shape)}, {found.seconds / 3600:.2f} h, {len(found.talkers)} talkers"
        if found.noise_types:
            yield f"  noise: {', '.join(sorted(found.noise_types))}"
        levels = [item.level_dbfs for item in found.measures if np.isfinite(item.level_dbfs)]
        peak = max(item.peak for item in found.measures)
        low, middle, high = np.percentile(levels or [-np.inf], (5, 50, 95))
        yield f"  speech at {middle:.1f} dBFS (90%: {low:.1f} to {high:.1f}), peaks up to {peak:.3f}"
        yield from _histogram(found)
    yield ""
    for fault in report.wrong[:LISTED]:
        yield f"wrong: {fault}"
    if len(report.wrong) > LISTED:
        yield f"wrong: {len(report.wrong) - LISTED} more"
    if not report.wrong:
        yield "nothing wrong found: no item clipped or silent, none in two splits, no SNR off its label"


def draw_page(folder: Path, report: Report, path: Path, items: int) -> None:
    """Write a PNG with spectrograms of noisy and clean of some items of each split."""
    chosen = [(split, number) for split in SPLITS for number in _spread(open_split(folder, split), items)]
    figure = Figure(figsize=(11, 1.7 * len(chosen)), layout="constrained")
    axes = figure.subplots(len(chosen), 2, squeeze=False, sharex=True, sharey=True)
    for row, (split, number) in zip(axes, chosen, strict=True):
        noisy, clean, _ = open_split(folder, split)[number]
        found = report.splits[split].measures[number]
        snr = _tidy(found.snr_db).strip()
        top = None
        for axis, name, waveform in zip(row, ("noisy", "clean"), (noisy, clean), strict=True):
            levels = spectrogram(waveform.numpy())
            top = levels.max() if top is None else top
            show_spectrogram(axis, levels, waveform.numel() / SAMPLE_RATE, top)
            axis.set_title(f"{split} {number}, {name}, {snr} dB SNR, {found.level_dbfs:.0f} dBFS", fontsize=8)
        row[0].set_ylabel("kHz")
    for axis in axes[-1]:
        axis.set_xlabel("s")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _histogram(found: SplitReport) -> Iterator[str]:
    """Yield number of items and measured SNRs for each label, or for each 5 dB without or with many labels."""
    labels = [item.label_db for item in found.measures]
    each = None not in labels and len(set(labels)) <= MANY_LABELS
    bins: dict[float, list[float]] = {}
    for item, label in zip(found.measures, labels, strict=True):
        if np.isfinite(item.snr_db):
            wanted = label if each else BIN_DB * round((item.snr_db if label is None else label) / BIN_DB)
            bins.setdefault(wanted, []).append(item.snr_db)
    most = max(map(len, bins.values()), default=1)
    for wanted, values in sorted(bins.items()):
        bar = "█" * max(1, round(BAR * len(values) / most))
        title = f"label {wanted:g} dB" if each else f"about {wanted:g} dB"
        yield f"  {title:>14}: measured {_tidy(min(values))} to {_tidy(max(values))} dB, {len(values):6d} {bar}"


def _tidy(decibel: float) -> str:
    return f"{round(decibel, 2) + 0.0:7.2f}"  # no minus before zero


def _spread(dataset: Dataset, items: int) -> list[int]:
    """Return numbers of items spread over a split."""
    return sorted({int(place) for place in np.linspace(0, len(dataset) - 1, items)})
