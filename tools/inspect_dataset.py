"""Measure a packed data set and report its content and errors.

    python -m tools.inspect_dataset data/mine

Prints shapes, hours, talkers, noise types, levels and SNRs, and draws spectrograms. The exit code is 1 if anything
is wrong: an SNR other than its label, an item clipped or silent, a talker or a stretch of noise in two splits.
"""

import dataclasses
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from msgspec import Meta
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader import OnTheFlyDataset, PackedDataset
from dataloader.datasets import is_on_the_fly
from dataloader.files import ITEMS, read_description, read_records
from dataloader.mixing import active_span, is_silent
from tools.common.audio import show_spectrogram, spectrogram
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import replacing
from tools.common.processes import ProcessPool
from tools.corpora.recordings import are_swapped, contrast_db
from tools.corpora.splits import SPLITS

TOLERANCE_DB = 0.05  # of an SNR, for rounding to int16
BATCH = 32  # items that a process measures at a time
LISTED = 20  # errors that are printed
Items = PackedDataset | OnTheFlyDataset
Record = Mapping[str, Any]  # of an item, a line of items.jsonl


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: tyro.conf.Positional[Path]
    """Folder of the packed data set."""
    png: Path | None = None
    """Where to draw the spectrograms; by default inspection.png in that folder."""
    items: Annotated[int, Meta(ge=0, le=100)] = 3
    """Items of each split to draw; 0 for no page."""
    processes: Annotated[int, Meta(ge=0, le=1024), tyro.conf.arg(aliases=("--workers",))] = 0
    """Processes; 0 for one a core."""


def main() -> None:
    arguments = parse_arguments(Arguments, __doc__)
    folder, errors = arguments.data, []
    page = arguments.png or folder / "inspection.png"
    if page.suffix != ".png":
        raise UserError(f"png: found {page}, expected a name that ends with .png")
    head, records, measures = read_description(folder), defaultdict(list), {}
    for split, record in read_records(folder):
        records[split].append(record)
    print(
        folder,
        *(f"{key}: {head[key]}" for key in ("dtype", "seed", "licence", "command") if head.get(key)),
        sep="\n",
    )
    with ProcessPool(arguments.processes) as pool:
        for split in SPLITS:
            measures[split] = measure_split(folder, split, records[split], pool, errors)
            describe(split, open_split(folder, split), measures[split], records[split] + records[f"{split}_noise"])
    errors += find_shared(records)
    for error in errors[:LISTED]:
        print(f"wrong: {error}")
    if errors:
        print(f"{len(errors)} errors")
    else:
        print("OK: splits disjoint, SNRs as labelled, no clipping, no silence")
    if arguments.items:
        draw_page(folder, measures, page, arguments.items)
        print(f"spectrograms are in {page}")
    sys.exit(bool(errors))


def open_split(folder: Path, split: str) -> Items:
    """Return the items of a split as in training; items mixed on the fly are those of epoch 1 with seed 0."""
    if split == "train" and is_on_the_fly(folder):
        dataset = OnTheFlyDataset(folder)
        dataset.start_epoch(0, 1)
        return dataset
    return PackedDataset(folder, split)


def measure_split(
    folder: Path, split: str, records: Sequence[Record], pool: ProcessPool, errors: list[str]
) -> pd.DataFrame:
    """Return label, SNR, level, peak and contrast of each item; what is wrong is added to errors."""
    dataset = open_split(folder, split)
    if records and len(records) != len(dataset):
        errors.append(f"{split}: {ITEMS} lists {len(records)} items, {len(dataset)} are there")
    ordered: list[Record] = [{}] * len(dataset)
    for number, record in enumerate(records[: len(dataset)]):
        ordered[find_cell(dataset, record) if split == "test" else number] = record
    batches = [(folder, split, first, ordered[first : first + BATCH]) for first in range(0, len(dataset), BATCH)]
    bar = tqdm(pool.starmap(measure_batch, batches), f"measuring {split}", len(batches), leave=False, disable=None)
    found = pd.DataFrame([measures for batch in bar for measures in batch])
    for wrong, where in (
        ("clipped", found["peak"] >= 1 - 2**-15),
        ("clean is silent", found["level_db"].isna()),
        ("noisy is clean: there is no noise", found["level_db"].notna() & found["snr_db"].isna()),
        ("SNR is not its label", (found["snr_db"] - found["label_db"]).abs() > TOLERANCE_DB),
    ):
        errors += [f"{split} item {number}: {wrong}" for number in found.index[where]]
    if are_swapped(found["contrast_db"]):
        errors.append(f"{split}: clean has louder pauses than noisy; are they swapped?")
    return found


def find_cell(dataset: PackedDataset, record: Record) -> int:
    """Return the number of the test's item that a record describes."""
    row = dataset.description.noise_types.index(record.get("row") or record["noise_type"])
    column = record["column"] if "column" in record else dataset.description.snr_db.index(record["snr_db"])
    return int(np.ravel_multi_index((row, column, record["utterance"]), dataset.grid))


def measure_batch(
    _: None, folder: Path, split: str, first: int, records: Sequence[Record]
) -> list[dict[str, float]]:
    """Measure items from the first-th on, over the active span of their records or, without one, the speech."""
    dataset, measured = open_split(folder, split), []
    for number, record in enumerate(records, first):
        noisy, clean = (signal.double().numpy() for signal in dataset[number][:2])
        label = record.get("snr_db")
        if split == "test" and dataset.grid[1] > 1:  # pairs of all levels share one column
            label = dataset.cell(number)[1]
        if "early_ms" in record:  # the SNR of a mixture with an early target is not that of clean and noisy
            label = None
        active = active_span(clean) if clean.any() and label is None else slice(*record.get("active", [None]))
        speech, noise = np.sum(clean[active] ** 2), np.sum((noisy[active] - clean[active]) ** 2)
        silent = is_silent(clean)
        measured.append(
            {
                "label_db": np.nan if label is None else label,
                "level_db": np.nan if silent else 10 * np.log10(speech / clean[active].size),
                "snr_db": np.nan if silent or not noise else 10 * np.log10(speech / noise),
                "peak": max(np.max(np.abs(noisy)), np.max(np.abs(clean))),
                "contrast_db": contrast_db(noisy) - contrast_db(clean),
            }
        )
    return measured


def describe(split: str, dataset: Items, measures: pd.DataFrame, records: Sequence[Record]) -> None:
    """Print the content of a split: sizes, types, levels, and measured SNRs by label."""
    axes = dataset.grid if isinstance(dataset, PackedDataset) else (len(dataset),)
    talkers, types = ({record[key] for record in records if key in record} for key in ("talker", "noise_type"))
    hours = len(dataset) * dataset.samples / SAMPLE_RATE / 3600
    low, middle, high = measures["level_db"].quantile([0.05, 0.5, 0.95])
    print(f"\n{split}: {[*axes, 2, dataset.samples]}, {hours:.2f} h, {len(talkers)} talkers")
    print(f"  noise: {', '.join(sorted(types)) or 'not listed'}")
    print(
        f"  speech at {middle:.1f} dBFS (90%: {low:.1f} to {high:.1f}), peaks up to {measures['peak'].max():.3f}"
    )
    labels, name = measures["label_db"], "label"
    if labels.isna().any() or labels.nunique() > 20:
        labels, name = 5 * (measures["snr_db"] / 5).round(), "about"
    table = measures["snr_db"].groupby(labels.rename(f"{name} (dB)")).agg(["count", "min", "max"])
    print(table.round(2).to_string(index_names=True))


def find_shared(records: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Yield talkers and stretches of noise that are in two splits."""
    for one, other in itertools.combinations(SPLITS, 2):
        talkers = [{record.get("talker") for record in records[split]} for split in (one, other)]
        for talker in sorted(set.intersection(*talkers) - {None}):
            yield f"talker {talker!r} is in {one} and in {other}"
        ends: dict[str, dict[str, int]] = defaultdict(dict)  # by file and split: where the stretches so far end
        for file, start, end, split in sorted(
            itertools.chain(find_stretches(records, one), find_stretches(records, other))
        ):
            if start < ends[file].get(other if split == one else one, 0):
                yield f"noise {file} from {start / SAMPLE_RATE:.2f} s on is in {one} and in {other}"
                break
            ends[file][split] = max(end, ends[file].get(split, 0))


def find_stretches(records: Mapping[str, Sequence[Record]], split: str) -> Iterator[tuple[str, int, int, str]]:
    """Yield file, start, end and split of the stretches of noise in a split; a segment may have joined several."""
    for record in [*records[split], *records[f"{split}_noise"]]:
        if "noise_start" in record:
            start = record["noise_start"]
            yield record["noise"], start, start + record["noise_samples"], split
        elif isinstance(record.get("noise"), list):
            for piece in record["noise"]:
                if "samples" in piece:  # not in babble
                    yield piece["file"], piece["start"], piece["start"] + piece["samples"], split


def draw_page(folder: Path, measures: Mapping[str, pd.DataFrame], path: Path, items: int) -> None:
    """Write a PNG with spectrograms of noisy and clean of some items of each split."""
    shown = [(split, n) for split in SPLITS for n in np.linspace(0, len(measures[split]) - 1, items).astype(int)]
    figure = Figure(figsize=(11, 1.7 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 2, squeeze=False, sharex=True, sharey=True)
    for row, (split, number) in zip(axes, shown, strict=True):
        found = measures[split].iloc[number]
        title = f"{split} {number}, {found['snr_db']:.2f} dB SNR, {found['level_db']:.0f} dBFS"
        noisy, clean, _ = open_split(folder, split)[number]
        levels = [spectrogram(waveform.numpy()) for waveform in (noisy, clean)]
        for axis, name, shown_levels in zip(row, ("noisy", "clean"), levels, strict=True):
            show_spectrogram(axis, shown_levels, noisy.numel() / SAMPLE_RATE, levels[0].max())
            axis.set(title=f"{name}: {title}", xlabel="s", ylabel="kHz")
            axis.label_outer()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


if __name__ == "__main__":
    run_command(main)
