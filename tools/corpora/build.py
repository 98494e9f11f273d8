"""From settings to a packed set: find, split, draw, mix, write."""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader.datasets import ACTIVE, NOISE, NOISE_INDEX, SPEECH
from dataloader.files import DESCRIPTION, ITEMS, read_records
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.corpora.layouts import with_layout
from tools.corpora.mixtures import (
    Plan,
    Record,
    make_item,
    make_noise_row,
    make_pair,
    make_plan,
    make_speech,
    make_test_utterance,
)
from tools.corpora.packing import create, new_folder
from tools.corpora.settings import DatasetSettings
from tools.corpora.splits import describe_sources, find_sources

LISTED = 20  # rejected files that are printed; all are in dataset.json


def build(asked: DatasetSettings, given: Collection[str] = ()) -> None:
    """Build the set of the settings. Raises UserError, and then leaves no files.

    given: names of settings that a layout does not change, even if they have their defaults.
    """
    settings = with_layout(asked, given)
    rejected, notes = [], []
    with new_folder(settings.out, settings.overwrite) as folder:
        try:
            with ProcessPool(settings.processes) as pool:
                sources = find_sources(settings, pool, rejected, notes)
                notes += describe_sources(*sources[:2])
        finally:
            report(rejected, notes)
        if settings.strict and rejected:
            raise UserError(f"{len(rejected)} files cannot be used; fix or remove them, or leave out --strict")
        plan = make_plan(settings, *sources)
        about = {
            "licence": settings.licence,
            "command": asked.command(given),
            "notes": notes,
            "left_out": rejected,
        }
        pack(folder, plan, about)
    print(f"{settings.out} is complete\n{summarise(settings.out, settings.samples)}")
    print(f"next: python -m tools.inspect_dataset {settings.out}, then python train.py --data {settings.out}")


def report(rejected: Sequence[str], notes: Sequence[str]) -> None:
    """Print rejected files, at most LISTED, and notes, one line each."""
    lines = [f"left out: {file}" for file in rejected[:LISTED]]
    if len(rejected) > LISTED:
        lines.append(f"left out: {len(rejected) - LISTED} more, listed in {DESCRIPTION}")
    for line in (*lines, *(f"note: {note}" for note in notes)):
        print(line, file=sys.stderr)


def pack(folder: Path, plan: Plan, about: Mapping[str, Any]) -> None:
    """Write the arrays, the records of all items, and dataset.json.

    about: entries of dataset.json that do not follow from the settings.
    """
    settings = plan.settings
    samples, dtype = settings.samples, settings.dtype
    training, snrs = {}, []
    with (
        ProcessPool(settings.processes, shared=(plan,)) as pool,
        (folder / ITEMS).open("w", encoding="utf-8", errors="replace") as file,
    ):

        def note(split: str, record: Record) -> None:
            file.write(json.dumps({"split": split, **record}, ensure_ascii=False) + "\n")

        if settings.mix == "on-the-fly":
            training = pack_sources(folder, plan, pool, note)
        for split in ("valid",) if settings.mix == "on-the-fly" else ("train", "valid"):
            count = plan.count(split)
            array = create(folder / f"{split}.npy", (count, 2, samples), dtype)
            make = make_pair if plan.has_pairs(split) else make_item
            for record in fill(array, pool, split, make, ((split, number) for number in range(count))):
                note(split, record)

        pairs, count = plan.has_pairs("test"), plan.count("test")
        columns = 1 if pairs else len(settings.test_snr_db)
        array = create(folder / "test.npy", (len(plan.rows), columns, count, 2, samples), dtype)
        array = np.moveaxis(array, 2, 0)  # an entry is an utterance in all cells
        inputs = (("test", number) for number in range(count))
        for record in fill(array, pool, "test", make_pair if pairs else make_test_utterance, inputs):
            note("test", record)
            snrs.append(record["snr_db"])
    grid = {"noise_types": plan.rows, "snr_db": settings.test_snr_db}
    if pairs:  # each has its own
        grid |= {"snr_db": [round(float(np.mean(snrs)), 1)]}
    described = {"format": 1, "sample_rate": SAMPLE_RATE, "dtype": dtype, "samples": samples}
    described |= {"seed": settings.seed, **grid, **training, **about}
    text = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8", errors="replace")  # names may be no text


def pack_sources(
    folder: Path, plan: Plan, pool: ProcessPool, note: Callable[[str, Record], None]
) -> dict[str, Any]:
    """Write speech and noise of the training, to be mixed on the fly; return their entries of dataset.json."""
    settings, recordings, kinds = plan.settings, plan.noise["train"], plan.segments["train"].types
    samples, count, active = settings.samples, plan.count("train"), []
    array = create(folder / f"{SPEECH}.npy", (count, samples), settings.dtype)
    for record in fill(array, pool, "train speech", make_speech, zip(range(count))):
        note("train", record)
        active.append(record["active"])
    np.save(folder / f"{ACTIVE}.npy", np.array(active))

    for recording in recordings:
        stretch = {"noise_start": recording.offset, "noise_samples": recording.samples}
        note("train_noise", {"noise_type": recording.label, "noise": str(recording.path), **stretch})
    lengths, types = np.array([(one.samples, kinds.index(one.label)) for one in recordings]).T
    counts = -(-lengths // samples)  # rows of each recording
    np.save(folder / f"{NOISE_INDEX}.npy", np.stack([counts.cumsum() - counts, lengths, types], 1))
    rows = [(number, row) for number, count in enumerate(counts) for row in range(count)]
    array = create(folder / f"{NOISE}.npy", (len(rows), samples), settings.dtype)
    list(fill(array, pool, "train noise", make_noise_row, rows))
    return {"on_the_fly": asdict(settings.distributions), "train_noise_types": kinds}


def fill(
    array: np.ndarray, pool: ProcessPool, title: str, make: Callable[..., Any], inputs: Iterable[tuple]
) -> Iterator[Record]:
    """Write what `make` returns for each input to an array, while the records of the items, yielded, are read."""
    results = pool.starmap(make, inputs)
    bar = tqdm(results, f"packing {title}", len(array), unit="item", leave=False, disable=None)
    for number, (values, records) in enumerate(bar):
        array[number] = values
        yield from records


def summarise(folder: Path, samples: int) -> str:
    """Return a table of items, minutes, talkers and noise types of each split."""
    columns = ["talker", "noise_type", "noise_samples"]
    rows = ([split, *map(record.get, columns)] for split, record in read_records(folder))
    records = pd.DataFrame(rows, columns=["split", *columns])
    lengths = records["noise_samples"].where(records["split"] == "train_noise", samples)
    splits = records.assign(minutes=lengths / SAMPLE_RATE / 60).groupby("split", sort=False)
    counts = {"talkers": ("talker", "nunique"), "noise_types": ("noise_type", "nunique")}
    return splits.agg(items=("split", "size"), minutes=("minutes", "sum"), **counts).round(1).to_string()
