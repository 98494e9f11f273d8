"""Measurement of a packed set, and comparison with its dataset.json."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader import OnTheFlyDataset, PackedDataset
from dataloader.description import ITEMS, read_description, read_items
from dataloader.mixing import active_span, is_silent
from dataloader.on_the_fly import is_on_the_fly
from tools.common.processes import ProcessPool
from tools.corpora.pairs import are_swapped, contrast_db
from tools.corpora.split_sources import SPLITS

TOLERANCE_DB = 0.01
BATCH = 32  # items that a process measures at a time
Dataset = PackedDataset | OnTheFlyDataset
Label = tuple[float | None, Sequence[int] | None]  # SNR in dB and active span, if known
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**50)]


class ItemRecord(msgspec.Struct):
    """The record of an item, as far as it is checked."""

    talker: str | None = None
    noise: str | list[dict[str, Any]] | None = None  # the file; for babble, its voices
    noise_type: str | None = None
    noise_start: Count | None = None
    noise_samples: Count = 0
    snr_db: Annotated[float, msgspec.Meta(gt=-1000, lt=1000)] | None = None
    early_ms: float | None = None
    active: tuple[Count, Count] | None = None
    row: str | None = None
    column: Count | None = None
    utterance: Count | None = None

    def __post_init__(self) -> None:
        if self.active and not self.active[0] < self.active[1]:
            raise ValueError(f"active {list(self.active)}, expected first and last + 1 sample")


@dataclass(frozen=True)
class Measure:
    """Measurements of an item."""

    snr_db: float  # over the active span; NaN without speech or noise
    label_db: float | None
    level_dbfs: float  # of the clean speech over the active span
    peak: float
    contrast_db: float  # of noisy above that of clean
    faults: tuple[str, ...]  # clipped, silent …


@dataclass
class SplitReport:
    """Content of a split."""

    shape: tuple[int, ...]
    seconds: float
    talkers: set[str] = field(default_factory=set)
    noise_types: set[str] = field(default_factory=set)
    noise: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))  # file: its stretches
    measures: list[Measure] = field(default_factory=list)  # of each item


@dataclass
class Report:
    """Content of a set, and what is wrong with it."""

    head: dict[str, Any]
    splits: dict[str, SplitReport] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def inspect(folder: Path, pool: ProcessPool) -> Report:
    """Measure every item of a set. Raises UserError if it cannot be read, ValueError for a bad dataset.json."""
    report = Report(read_description(folder))
    report.head.pop("items", None)
    labels: dict[str, list[Label]] = {}
    for split in SPLITS:
        dataset = open_split(folder, split)
        axes = dataset.grid if isinstance(dataset, PackedDataset) else (len(dataset),)
        seconds = len(dataset) * dataset.samples / SAMPLE_RATE
        report.splits[split] = SplitReport((*axes, 2, dataset.samples), seconds)
        labels[split] = [(None, None)] * len(dataset)
    counts: dict[str, int] = defaultdict(int)
    for split, item in read_items(folder):
        try:
            record = msgspec.convert(item, ItemRecord)
            _note(report.splits[split.removesuffix("_noise")], record)
            if split in labels and (place := _place(record, counts[split], report, split)) is not None:
                # The SNR of a mixture with an early target is not that of clean and noisy.
                labels[split][place] = record.snr_db if record.early_ms is None else None, record.active
        except (KeyError, ValueError) as error:
            raise ValueError(f"{folder}: item {counts[split]} of {split} is not as expected ({error})") from None
        counts[split] += 1
    for split in SPLITS:
        if counts and counts[split] != len(labels[split]):
            report.wrong.append(f"{split}: {ITEMS} lists {counts[split]} items, {len(labels[split])} are there")
        _measure_all(folder, split, labels[split], pool, report)
        if are_swapped([item.contrast_db for item in report.splits[split].measures]):
            report.wrong.append(f"{split}: clean has louder pauses than noisy; are they swapped?")
    report.wrong += list(_heard_twice(report.splits))
    return report


def open_split(folder: Path, split: str) -> Dataset:
    """Return the items of a split as in training; items mixed on the fly are those of epoch 1 with seed 0."""
    if split == "train" and is_on_the_fly(folder):
        dataset = OnTheFlyDataset(folder)
        dataset.start_epoch(0, 1)
        return dataset
    return PackedDataset(folder, split)


def measure(dataset: Dataset, number: int, label: Label) -> Measure:
    """Measure an item over the active span of its label or, without a label, over its speech."""
    noisy, clean, _ = dataset[number]
    noisy, clean = noisy.double().numpy(), clean.double().numpy()
    label_db, span = label
    faults = []
    peak = float(max(np.max(np.abs(noisy)), np.max(np.abs(clean))))
    if peak >= 1 - 2**-15:
        faults.append(f"clipped, its peak is {peak:.4f}")
    if is_silent(clean):
        return Measure(np.nan, label_db, -np.inf, peak, 0.0, (*faults, "clean is silent"))
    active = slice(*span) if span else slice(None) if label_db is not None else active_span(clean)
    speech, noise = np.sum(clean[active] ** 2), np.sum((noisy[active] - clean[active]) ** 2)
    level = 10 * np.log10(speech / clean[active].size) if speech else -np.inf
    snr_db = 10 * np.log10(speech / noise) if speech and noise else np.nan
    if not noise:
        faults.append("noisy is clean: there is no noise")
    elif label_db is not None and not abs(snr_db - label_db) <= TOLERANCE_DB:
        faults.append(f"SNR is {snr_db:.2f} dB, its label says {label_db:g}")
    contrast = contrast_db(noisy) - contrast_db(clean)
    return Measure(float(snr_db), label_db, float(level), peak, contrast, tuple(faults))


def measure_batch(_: None, folder: Path, split: str, first: int, labels: Sequence[Label]) -> list[Measure]:
    """Measure items from the first-th on, in a worker process."""
    dataset = open_split(folder, split)
    return [measure(dataset, first + number, label) for number, label in enumerate(labels)]


def _measure_all(folder: Path, split: str, labels: Sequence[Label], pool: ProcessPool, report: Report) -> None:
    tasks = ((folder, split, first, labels[first : first + BATCH]) for first in range(0, len(labels), BATCH))
    found = report.splits[split]
    with tqdm(total=len(labels), desc=f"measuring {split}", unit="item", leave=False, disable=None) as bar:
        for batch in pool.starmap(measure_batch, tasks):
            first = len(found.measures)
            found.measures += batch
            report.wrong += [
                f"{split} item {n}: {fault}" for n, item in enumerate(batch, first) for fault in item.faults
            ]
            bar.update(len(batch))


def _note(split: SplitReport, item: ItemRecord) -> None:
    if item.talker is not None:
        split.talkers.add(item.talker)
    file = item.noise if isinstance(item.noise, str) else None
    cut = item.noise_start is not None
    if kind := (None if cut else file) or item.noise_type:
        split.noise_types.add(kind)
    joined = item.noise if isinstance(item.noise, list) else []
    stretches = [(piece["file"], piece["start"], piece["samples"]) for piece in joined if "samples" in piece]
    if cut and file:
        stretches.append((file, item.noise_start, item.noise_samples))
    for name, start, samples in stretches:
        split.noise[name].add((start, start + samples))


def _place(item: ItemRecord, count: int, report: Report, split: str) -> int | None:
    """Return the number of the item of a record; None if there is no such item."""
    shape = report.splits[split].shape[:-2]
    if split != "test":
        return count if count < shape[0] else None
    try:
        row = report.head["noise_types"].index(item.row or item.noise_type)
        column = report.head["snr_db"].index(item.snr_db) if item.column is None else item.column
        level = report.head["snr_db"][column]
        if shape[1] > 1 and item.snr_db not in (None, level):  # pairs of all levels share one column
            report.wrong.append(f"test item {count}: lies at {level:g} dB, its label says {item.snr_db:g}")
        return int(np.ravel_multi_index((row, column, item.utterance), shape))
    except (ValueError, LookupError, TypeError):
        return None


def _heard_twice(splits: dict[str, SplitReport]) -> Iterator[str]:
    """Yield talkers and stretches of noise that are in two splits."""
    for one, other in itertools.combinations(splits, 2):
        for talker in sorted(splits[one].talkers & splits[other].talkers):
            yield f"talker {talker!r} is in {one} and in {other}"
        for file, stretches in splits[one].noise.items():
            both = [(*s, one) for s in stretches] + [(*s, other) for s in splits[other].noise.get(file, ())]
            reach = {one: 0, other: 0}  # up to where each split has heard the file
            for start, stop, split in sorted(both):
                if start < reach[other if split == one else one]:
                    yield f"noise {file} from {start / SAMPLE_RATE:.2f} s on is in {one} and in {other}"
                    break
                reach[split] = max(reach[split], stop)
