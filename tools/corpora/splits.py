"""Splitting of speech and noise into training, validation and test, without overlap."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from config import SAMPLE_RATE
from tools.common.errors import UserError
from tools.common.seeding import generator
from tools.corpora.recordings import Recording

Found = TypeVar("Found", bound=Recording)
SHARE = 0.1  # of talkers, and of a type's recordings, for each of validation and test
SHOWN = 5  # names in a note
TIME_SHARE = 0.15  # of a recording that is cut in time, for each of them


@dataclass(frozen=True)
class NoisePart:
    """A stretch of a recording from which noise segments are taken, in samples."""

    recording: Recording
    start: int
    stop: int

    @property
    def samples(self) -> int:
        return self.stop - self.start


def split_by_talker(
    speech: Sequence[Found], splits: Sequence[str], seed: int, named: Mapping[str, Collection[str]]
) -> dict[str, list[Found]]:
    """Return the recordings of each split, every talker in one of them; the first split gets the rest.

    named: the talkers of a split, by name; for other splits they are drawn. Raises UserError for too few talkers
    and unknown names.
    """
    talkers = sorted({recording.group for recording in speech})
    owner = {}
    for split, names in named.items():
        for talker in names if split in splits else ():
            if talker not in talkers:
                raise UserError(f"{split} talker {talker!r}: found no recording of that talker")
            owner[talker] = split
    drawn = [split for split in splits[1:] if not named.get(split)]
    free = [talker for talker in talkers if talker not in owner]
    if len(free) <= len(drawn):
        raise UserError(
            f"{speech[0].folder}: found {len(talkers)} talker{'s' * (len(talkers) > 1)}, expected "
            f"{len(drawn) + 1} or more to cut {' and '.join(splits)} from; give the other folders, or --talker, "
            "the pattern of a talker's name in a path"
        )
    free = [free[place] for place in generator(seed, "talkers").permutation(len(free))]
    count = max(1, round(SHARE * len(free)))
    count = min(count, (len(free) - 1) // max(len(drawn), 1))
    for number, split in enumerate(drawn):
        owner |= dict.fromkeys(free[number * count : (number + 1) * count], split)
    return {split: [r for r in speech if owner.get(r.group, splits[0]) == split] for split in splits}


def check_talkers_apart(speech: Mapping[str, Sequence[Recording]]) -> None:
    """Raise UserError if a talker's name is found in two splits."""
    talkers = {split: {recording.group for recording in recordings} for split, recordings in speech.items()}
    for one, other in itertools.combinations(talkers, 2):
        common = sorted(talkers[one] & talkers[other])
        if common:
            raise UserError(
                f"talker {common[0]!r}: found in {one} and in {other} ({len(common)} such talkers), expected in "
                "one; choose other folders, or --talker, the pattern of a talker's name in a path"
            )


def split_noise(
    noise: Sequence[Recording], splits: Sequence[str], clip: int, seed: int
) -> tuple[dict[str, list[NoisePart]], list[str]]:
    """Return the parts of each split, without overlap, and a note on the types that are in training only.

    A type with enough recordings is split by recording; else each of its recordings is cut in time, if every part
    has at least the `clip` samples of a segment. Other recordings go to training, the first split.
    """
    parts: dict[str, list[NoisePart]] = {split: [] for split in splits}
    uncut = []
    for kind, group in by_group(noise).items():
        others = len(splits) - 1
        if len(group) > others:
            count = max(1, round(SHARE * len(group)))
            count = min(count, (len(group) - 1) // max(others, 1))
            order = [group[place] for place in generator(seed, "noise", kind).permutation(len(group))]
            for number, recording in enumerate(order):
                split = splits[1 + number // count] if number < others * count else splits[0]
                parts[split].append(whole(recording))
            continue
        short = [recording for recording in group if recording.samples < len(splits) * clip]
        for recording in short:
            parts[splits[0]].append(whole(recording))
        if len(short) == len(group):
            uncut.append(kind)
        for recording in group:
            if recording not in short:
                share = max(clip, int(TIME_SHARE * recording.samples))
                ends = [recording.samples - (others - n) * share for n in range(len(splits))]
                for split, start, stop in zip(splits, [0, *ends], ends, strict=False):
                    parts[split].append(NoisePart(recording, start, stop))
    for split in parts:
        parts[split].sort(key=lambda part: part.recording.file)
    notes = []
    if uncut:
        wanted = len(splits) * clip / SAMPLE_RATE
        notes.append(
            f"{listed(uncut, 'noise type')} only in {splits[0]}: too few recordings, and shorter than the "
            f"{wanted:g} s that could be cut for {' and '.join(splits)}"
        )
    return parts, notes


def listed(names: Sequence[str], what: str) -> str:
    """Return the number of names and the first ones, as in "3 types (a, b, c) are"."""
    more = ", …" if len(names) > SHOWN else ""
    several = len(names) > 1
    return f"{len(names)} {what}{'s' * several} ({', '.join(names[:SHOWN])}{more}) {'are' if several else 'is'}"


def whole(recording: Recording) -> NoisePart:
    """Return the whole recording as a part."""
    return NoisePart(recording, 0, recording.samples)


def by_group(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    """Return the recordings by talker or type, sorted by name."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(recording.group, []).append(recording)
    return dict(sorted(groups.items()))
