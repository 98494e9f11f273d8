"""Building a packed set: items computed in a pool of processes, written in order, and described."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from config import SAMPLE_RATE
from dataloader.on_the_fly import ACTIVE, NOISE, NOISE_INDEX, SPEECH
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.corpora.layouts import with_layout
from tools.corpora.mixtures import MixtureSource
from tools.corpora.noise_sources import BABBLE_ROWS
from tools.corpora.packing import PackedSetWriter
from tools.corpora.recordings import Problem
from tools.corpora.settings import DatasetSettings
from tools.corpora.split_sources import Source, SourceFinder

LISTED = 20  # problems that are printed; all are in dataset.json
SHOWN_TYPES = 5  # of noise, in the summary


def build(asked: DatasetSettings) -> None:
    """Build the set of the settings. Raises UserError, and then leaves no files."""
    settings = with_layout(asked)
    problems, notes = [], []
    with PackedSetWriter(
        settings.out, settings.samples, settings.dtype, settings.overwrite, settings.shard_gb * 1e9
    ) as writer:
        try:
            with ProcessPool(settings.workers) as pool:
                sources = SourceFinder(settings, pool, problems, notes).find()
        finally:
            report(problems, notes, everything=settings.strict or sys.exc_info()[0] is not None)
        if settings.strict and problems:
            raise UserError(
                f"{len(problems)} files cannot be used and --strict is given; fix or remove them, or "
                "leave out --strict to make the set without them"
            )
        with ProcessPool(settings.workers, shared=sources) as pool:
            packer = _Packer(writer, pool, sources, settings)
            head = packer.pack()
        writer.describe(
            {
                "format": 1,
                "sample_rate": SAMPLE_RATE,
                "dtype": settings.dtype,
                "samples": settings.samples,
                "seed": settings.seed,
                **head,
                "licence": settings.licence,
                "command": asked.command,
                "notes": notes,
                "left_out": [str(problem) for problem in problems],
            }
        )
    print(f"{settings.out} is complete\n{packer.summary()}")


def report(problems: Sequence[Problem], notes: Sequence[str], everything: bool) -> None:
    """Print problems and notes, one line each; everything: all problems, not only the first ones."""
    shown = problems if everything else problems[:LISTED]
    for problem in shown:
        print(f"left out: {problem}", file=sys.stderr)
    if len(problems) > len(shown):
        print(f"left out: {len(problems) - len(shown)} more, listed in dataset.json", file=sys.stderr)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


@dataclass
class Tally:
    """Content of a split, for the summary."""

    items: int = 0
    samples: int = 0
    talkers: set[str | None] = field(default_factory=set)
    types: set[str | None] = field(default_factory=set)


class _Packer:
    def __init__(
        self, writer: PackedSetWriter, pool: ProcessPool, sources: Mapping[str, Source], settings: DatasetSettings
    ) -> None:
        self.writer, self.pool, self.sources, self.settings = writer, pool, sources, settings
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    def pack(self) -> dict[str, Any]:
        """Write all splits; return the entries of dataset.json about the whole set."""
        head: dict[str, Any] = {}
        if self.settings.mix == "on-the-fly":
            head["on_the_fly"] = asdict(self.settings.draw)
            self._pack_train_speech()
            head["train_noise_types"] = self._pack_train_noise()
        else:
            self._pack_items("train")
        self._pack_items("valid")
        return self._pack_test() | head

    def _record(self, split: str, made_of: dict[str, Any]) -> None:
        self.writer.record(split, made_of)
        tally = self.tallies[split]
        tally.items += 1
        tally.samples += made_of["noise_samples"] if split == "train_noise" else self.settings.samples
        tally.talkers.add(made_of.get("talker"))
        tally.types.add(made_of.get("noise_type"))

    def summary(self) -> str:
        """Return a line for each split, and the next commands."""
        lines = [f"{'':11} {'items':>7} {'minutes':>8} {'talkers':>8}  noise types"]
        for split, tally in self.tallies.items():
            minutes = tally.samples / SAMPLE_RATE / 60
            talkers, types = len(tally.talkers - {None}), sorted(map(str, tally.types - {None}))
            more = f" and {len(types) - SHOWN_TYPES} more" if len(types) > SHOWN_TYPES else ""
            row = f"{split:11} {tally.items:>7} {minutes:>8.1f} {talkers or '-':>8}  "
            lines.append(row + (f"{len(types)}: {', '.join(types[:SHOWN_TYPES])}{more}" if types else "-"))
        out = self.settings.out
        lines.append(f"next: python -m tools.inspect_dataset {out}, then python train.py --data {out}")
        return "\n".join(lines)

    def _pack_items(self, split: str) -> None:
        count = self.sources[split].count(split)
        array = self.writer.create(split, count)
        for index, (pair, made_of) in self._made(split, split, "item", ((split, n) for n in range(count)), count):
            array[index] = pair
            self._record(split, made_of)

    def _pack_test(self) -> dict[str, Any]:
        source = self.sources["test"]
        count = source.count("test")
        snrs = self.settings.test_snr_db if isinstance(source, MixtureSource) else (0.0,)
        array = self.writer.create("test", len(source.noise_types), len(snrs), count)
        measured = []
        for utterance, (grid, items) in self._made("test", "test", "test_utterance", zip(range(count)), count):
            for row, column in np.ndindex(grid.shape[:2]):
                array[row, column, utterance] = grid[row, column]
            for made_of in items:
                self._record("test", made_of)
                measured.append(made_of["snr_db"])
        described = {"noise_types": list(source.noise_types), "snr_db": list(snrs)}
        if not isinstance(source, MixtureSource):
            described["snr_db"] = [round(float(np.mean(measured)), 1)]
            described["snr_db_is"] = "mean of the pairs; each item has its own, measured"
        return described

    def _pack_train_speech(self) -> None:
        count, samples = self.sources["train"].count("train"), self.settings.samples
        speech = self.writer.create(SPEECH, count, item=(samples,))
        active = self.writer.create(ACTIVE, count, item=(2,), dtype=np.int64)
        made = self._made("train speech", "train", "packed_speech", zip(range(count)), count)
        for index, (clip, made_of) in made:
            speech[index] = clip
            active[index] = made_of["active"]
            self._record("train", made_of)

    def _pack_train_noise(self) -> list[str]:
        source, samples = self.sources["train"].noise["train"], self.settings.samples
        lengths = [part.samples for part in source.parts] + [samples] * BABBLE_ROWS * bool(source.babble)
        rows = [-(-length // samples) for length in lengths]
        starts = np.cumsum([0, *rows])
        index = self.writer.create(NOISE_INDEX, len(lengths), item=(3,), dtype=np.int64)
        for number, length in enumerate(lengths):
            part = source.parts[number] if number < len(source.parts) else None
            kind = part.recording.group if part else source.types[-1]
            index[number] = starts[number], length, source.types.index(kind)
            made_of = {"noise": str(part.recording.path), "noise_start": part.start} if part else {}
            self._record("train_noise", {"noise_type": kind, **made_of, "noise_samples": length})
        array = self.writer.create(NOISE, int(starts[-1]), item=(samples,))
        places = ((number, row) for number, count in enumerate(rows) for row in range(count))
        for place, row in self._made("train noise", "train", "packed_noise", places, int(starts[-1])):
            array[place] = row
        return list(source.types)

    def _made(
        self, title: str, split: str, what: str, places: Iterable[tuple[Any, ...]], count: int
    ) -> Iterator[tuple[int, Any]]:
        results = self.pool.starmap(make, ((split, what, *place) for place in places))
        try:
            yield from enumerate(tqdm(results, f"packing {title}", count, unit="item", leave=False, disable=None))
        except ValueError as error:  # mixing failed, such as an SNR below a step of int16
            raise UserError(f"{title}: {error}; choose other SNRs, levels or --dtype float32") from None


def make(sources: Mapping[str, Source], split: str, what: str, *place: int) -> Any:
    """Return the result of the method `what` of the split's source, in a worker process."""
    return getattr(sources[split], what)(*place)
