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
from dataloader.files import ITEMS, read_records
from dataloader.mixing import active_span, is_silent
from tools.common.command_line import parse_arguments, run_command
from tools.common.processes import ProcessPool
from tools.corpora.splits import SPLITS
from tools.reports.figures import save_figure, spectrogram_figure

TOLERANCE_DB = 0.05  # of an SNR, for rounding to int16
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
    folder, records, measures, errors = arguments.data, defaultdict(list), {}, []
    for split, record in read_records(folder):
        records[split].append(record)
    print(folder)
    datasets = {split: open_split(folder, split) for split in SPLITS}
    with ProcessPool(arguments.processes, shared=(datasets,)) as pool:
        for split, dataset in datasets.items():
            if records[split] and len(records[split]) != len(dataset):
                errors.append(f"{split}: {ITEMS} lists {len(records[split])} items, {len(dataset)} are there")
            measures[split] = measure_split(split, dataset, records[split], pool)
            errors += find_errors(split, measures[split])
            describe(split, dataset, measures[split], records[split] + records[f"{split}_noise"])
    errors += find_shared(records)
    for error in errors[:LISTED]:
        print(f"wrong: {error}")
    print(f"{len(errors)} errors" if errors else "OK: splits disjoint, SNRs as labelled, no clipping, no silence")
    if arguments.items:
        page = arguments.png or folder / "inspection.png"
        save_figure(draw_items(datasets, measures, arguments.items), page.parent, page.stem, ["png"])
        print(f"spectrograms are in {page.with_suffix('.png')}")
    sys.exit(bool(errors))


def open_split(folder: Path, split: str) -> Items:
    """Return the items of a split as in training; items mixed on the fly are those of epoch 1 with seed 0."""
    if split == "train" and is_on_the_fly(folder):
        dataset = OnTheFlyDataset(folder)
        dataset.start_epoch(0, 1)
        return dataset
    return PackedDataset(folder, split)


def measure_split(split: str, dataset: Items, records: Sequence[Record], pool: ProcessPool) -> pd.DataFrame:
    """Return label, SNR, level and peak of each item."""
    if split == "test":  # in all cells of an utterance, speech and its active span are the same
        by_utterance = {record["utterance"]: record for record in records}
        records = [by_utterance.get(dataset.cell(number)[2], {}) for number in range(len(dataset))]
    own = [*records, *({} for _ in range(len(dataset) - len(records)))][: len(dataset)]
    results = pool.starmap(measure, ((split, number, record) for number, record in enumerate(own)))
    bar = tqdm(results, f"measuring {split}", len(dataset), unit="item", leave=False, disable=None)
    return pd.DataFrame(list(bar))


def measure(datasets: Mapping[str, Items], split: str, number: int, record: Record) -> dict[str, float]:
    """Measure an item over the active span of its record or, without one, over the speech."""
    dataset = datasets[split]
    noisy, clean = (signal.double().numpy() for signal in dataset[number][:2])
    label = record.get("snr_db", np.nan)
    if split == "test" and dataset.grid[1] > 1:  # pairs of all levels share one column
        label = dataset.cell(number)[1]
    if "early_ms" in record:  # the SNR of a mixture with an early target is not that of clean and noisy
        label = np.nan
    silent = is_silent(clean)
    active = slice(*record.get("active", [None]))
    if not (silent or record):
        active = active_span(clean)
    speech, noise = np.sum(clean[active] ** 2), np.sum((noisy[active] - clean[active]) ** 2)
    return {
        "label_db": label,
        "level_db": np.nan if silent else 10 * np.log10(speech / clean[active].size),
        "snr_db": np.nan if silent or not noise else 10 * np.log10(speech / noise),
        "peak": max(np.max(np.abs(noisy)), np.max(np.abs(clean))),
    }


def find_errors(split: str, found: pd.DataFrame) -> Iterator[str]:
    """Yield what is wrong with items of a split."""
    for error, where in {
        "clipped": found["peak"] >= 1 - 2**-15,
        "clean is silent": found["level_db"].isna(),
        "noisy is clean: there is no noise": found["level_db"].notna() & found["snr_db"].isna(),
        "SNR is not its label": (found["snr_db"] - found["label_db"]).abs() > TOLERANCE_DB,
    }.items():
        yield from (f"{split} item {number}: {error}" for number in found.index[where])


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
    near = (5 * (measures["snr_db"] / 5).round()).rename("SNR near (dB)")
    print(measures["snr_db"].groupby(near).agg(["count", "min", "max"]).round(2).to_string())


def find_shared(records: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Yield talkers and stretches of noise that are in two splits."""
    talkers = {split: {record["talker"] for record in records[split] if "talker" in record} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        yield from (f"talker {talker!r} is in {one} and in {other}" for talker in talkers[one] & talkers[other])
    stretches = [
        (*stretch, split)
        for split in SPLITS
        for record in (*records[split], *records[f"{split}_noise"])
        for stretch in noise_stretches(record)
    ]
    reach: dict[str, tuple[int, str]] = {}  # by file: where the stretches so far end, and the split of that one
    for file, start, end, split in sorted(stretches):
        reached, other = reach.get(file, (0, split))
        if start < reached and split != other:
            yield f"noise {file} from {start / SAMPLE_RATE:.2f} s on is in {other} and in {split}"
        reach[file] = max((reached, other), (end, split))


def noise_stretches(record: Record) -> Iterator[tuple[str, int, int]]:
    """Yield file, start and end of the noise of a record, of one recording or of several."""
    if "noise_start" in record:
        yield record["noise"], record["noise_start"], record["noise_start"] + record["noise_samples"]
    elif isinstance(record.get("noise"), list):  # joined recordings; earlier also the voices of babble
        pieces = (piece for piece in record["noise"] if "samples" in piece)
        yield from ((piece["file"], piece["start"], piece["start"] + piece["samples"]) for piece in pieces)


def draw_items(datasets: Mapping[str, Items], measures: Mapping[str, pd.DataFrame], items: int) -> Figure:
    """Draw spectrograms of noisy and clean of some items of each split."""
    rows = []
    for split, dataset in datasets.items():
        for number in np.linspace(0, len(dataset) - 1, items).astype(int):
            noisy, clean = (waveform.numpy() for waveform in dataset[number][:2])
            title = f"{split} {number}, {measures[split]['snr_db'][number]:.2f} dB SNR"
            rows.append((title, {"noisy": noisy, "clean": clean}))
    return spectrogram_figure(rows)


if __name__ == "__main__":
    run_command(main)
