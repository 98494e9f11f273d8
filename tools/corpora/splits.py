"""Split: which recordings are in training, validation and test, without overlap."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from config import SAMPLE_RATE
from dataloader.random_draws import generator
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.corpora.recordings import (
    MIN_NOISE_SAMPLES,
    Recording,
    Selection,
    drop_copies,
    find_pairs,
    find_recordings,
)
from tools.corpora.settings import DatasetSettings

Found = TypeVar("Found", bound=Recording)
Recordings = Mapping[str, Sequence[Recording]]  # by split; noise of the test by row of its grid
SPLITS = ("train", "valid", "test")
SHARE = 0.1  # of talkers, and of a type's recordings, for each of validation and test
TIME_SHARE = 0.15  # of a recording that is cut in time, for each of them
SIMULATED = "simulated"  # rooms
SHOWN = 5  # names in a note
FEW_TALKERS = 10  # in the test


def find_sources(
    settings: DatasetSettings, pool: ProcessPool, rejected: list[str], notes: list[str]
) -> tuple[Recordings, Recordings, Recordings]:
    """Return speech or pairs, noise, and impulse responses from the folders of the settings.

    Speech and impulse responses are by split; noise is that of train, valid, and of the rows of the test. Files
    that cannot be used go to `rejected`, what the user may want to know to `notes`. Raises UserError if a split
    has nothing to use.
    """
    selection = Selection(settings.talker, settings.samples, settings.speech_files, settings.cut, settings.seed)
    whole = dataclasses.replace(selection, files="", cut="whole")
    find = functools.partial(find_recordings, pool=pool, rejected=rejected)
    pair = functools.partial(find_pairs, settings.pair_key, selection, pool, rejected)
    if settings.pairs:
        given = {"train": settings.pairs, "valid": settings.valid_pairs, "test": settings.test_pairs}
        found = {split: pair(folders) for split, folders in given.items() if folders}
        return fill_splits(settings, found, SPLITS, rejected), {}, {}

    splits = SPLITS[:2] if settings.test_pairs else SPLITS
    given = {"test": settings.test_speech, "valid": settings.valid_speech, "train": settings.speech}
    found = {split: find(given[split], selection) for split in reversed(splits) if given[split]}
    drop_copies(found.values(), rejected)
    if "test" in found and settings.test_talkers:
        talkers = {talker.lower() for talker in settings.test_talkers}
        others = [recording for recording in found["test"] if recording.label.lower() not in talkers]
        found["test"] = [recording for recording in found["test"] if recording.label.lower() in talkers]
        found.setdefault("valid", others)
    speech = fill_splits(settings, found, splits, rejected)
    sounds = dataclasses.replace(whole, label=settings.noise_type, cut="sound", shortest=MIN_NOISE_SAMPLES)
    noise = find_noise(settings, splits, functools.partial(find, selection=sounds), rejected, notes)
    of_speech, of_noise = (
        {one.path.resolve() for one in itertools.chain(*lists.values())} for lists in (speech, noise)
    )
    for path in sorted(of_speech & of_noise):
        raise UserError(f"{path}: found in a folder of speech and in one of noise, expected separate folders")
    responses = {}
    if settings.reverb not in ("", SIMULATED):
        found = find([Path(settings.reverb)], dataclasses.replace(whole, label="", shortest=1))
        expect_some(found, "reverb", rejected)
        responses = split_responses(found, splits, settings.seed)
    if settings.test_pairs:
        speech["test"] = pair(settings.test_pairs)
        expect_some(speech["test"], "test", rejected)
    return speech, noise, responses


def find_noise(
    settings: DatasetSettings,
    splits: Sequence[str],
    find: Callable[[Sequence[Path]], list[Recording]],
    rejected: list[str],
    notes: list[str],
) -> dict[str, list[Recording]]:
    """Return the noise of train, valid, and of the rows of the test. Raises UserError if a needed one has none."""
    tested = "test" in splits
    given = {"valid": settings.valid_noise, "train": settings.noise}
    if tested:
        given = {"unseen": settings.unseen_noise, "seen": settings.test_noise} | given
    noise = {name: find(folders) for name, folders in given.items()}
    drop_copies(noise.values(), rejected)
    for name, kinds in (("unseen", settings.unseen_types), ("valid", settings.valid_types)):
        for kind in set(kinds) - set(by_label(noise["train"])):
            raise UserError(f"{name}_types: found {kind!r}, expected a type of --noise")
        if kinds:
            noise[name] += [recording for recording in noise["train"] if recording.label in kinds]
            noise["train"] = [recording for recording in noise["train"] if recording.label not in kinds]
    expect_some(noise["train"], "training", rejected)
    kinds = set(by_label(noise["train"]))
    needed = ["valid", "seen"] if tested else ["valid"]
    if tested:
        for kind in set(by_label(noise["seen"])) - kinds:
            raise UserError(f"test_noise: found type {kind!r}, expected types of --noise (see --unseen_noise)")
        unseen = noise.pop("unseen")
        noise["unseen types"] = [recording for recording in unseen if recording.label not in kinds]
        noise["unseen sources"] = [recording for recording in unseen if recording.label in kinds]
        if shared := by_label(noise["unseen sources"]):
            notes.append(f"unseen sources: {listed([*shared], 'type')} in training too, as other recordings")
        if not unseen:
            notes.append("the test has no noise that is not in training; see --unseen_noise and --unseen_types")
    cut = ["train", *(name for name in needed if not noise[name])]
    noise |= split_noise(noise["train"], cut, settings.samples, settings.seed, notes)
    for name in needed:
        if not (noise[name] or settings.babble or (name == "seen" and unseen)):
            raise UserError(
                f"found no noise for {name}: a type needs {len(cut)} recordings, or one of "
                f"{len(cut) * settings.seconds:g} s; add some, or --valid_noise and --test_noise, or take all "
                "files for one type with --noise_type ''"
            )
    return noise


def describe_sources(speech: Recordings, noise: Recordings) -> Iterator[str]:
    """Yield what the user may want to know: the talkers, and traits of recordings by count and first file."""
    talkers = {recording.label for recordings in speech.values() for recording in recordings}
    yield f"{listed(sorted(talkers), 'talker')} in the speech, as --talker has it"
    if len(by_label(speech["test"])) < FEW_TALKERS:
        several = f"{FEW_TALKERS} or more talkers: intervals hold for these voices only, not for others"
        yield f"{listed([*by_label(speech['test'])], 'talker')} in the test, expected {several}"
    for what, lists in (("speech", speech), ("noise", noise)):
        every = [recording for recordings in lists.values() for recording in recordings]
        traits = {getattr(recording, "noisy", recording.path): recording.traits for recording in every}
        for trait in sorted(frozenset().union(*traits.values())):
            files = sorted(file for file, own in traits.items() if trait in own)
            yield f"{len(files)} of {len(traits)} recordings of {what} {trait}, the first: {files[0]}"


def fill_splits(
    settings: DatasetSettings, found: dict[str, list[Found]], splits: Sequence[str], rejected: Sequence[str]
) -> dict[str, list[Found]]:
    """Return what was found for each split; for one without a folder, talkers of the training set aside."""
    expect_some(found["train"], "training", rejected)
    missing = [split for split in splits if split not in found]
    if missing:
        named_talkers = {"valid": settings.valid_talkers, "test": settings.test_talkers}
        found |= split_by_talker(found["train"], ("train", *missing), settings.seed, named_talkers)
    found = {split: found[split] for split in splits}
    for split, those in found.items():
        expect_some(those, split, rejected)
    check_talkers_apart(found)
    return found


def split_by_talker(
    speech: Sequence[Found], splits: Sequence[str], seed: int, named: Mapping[str, Sequence[str]]
) -> dict[str, list[Found]]:
    """Return the recordings of each split, every talker in one of them; the first split gets the rest.

    named: the talkers of a split, by name; for other splits they are drawn. Raises UserError for too few talkers
    and unknown names.
    """
    talkers = sorted({recording.label for recording in speech})
    owner = {}
    for split, names in named.items():
        for talker in names if split in splits else ():
            if talker not in talkers:
                raise UserError(f"{split} talker {talker!r}: found no recording of that talker")
            owner[talker] = split
    drawn = [split for split in splits[1:] if not named.get(split)]
    free = [talker for talker in talkers if talker not in owner]
    if len(free) <= len(drawn):
        found = f"found {len(talkers)} talkers, as in {speech[0].path}, expected more for {' and '.join(splits)}"
        raise UserError(f"{found}; give other folders, or --talker, the pattern of a talker's name in a path")
    free = [free[place] for place in generator(seed, "talkers").permutation(len(free))]
    count = held_out(len(free), len(drawn))
    for number, split in enumerate(drawn):
        owner |= dict.fromkeys(free[number * count : (number + 1) * count], split)
    return {split: [r for r in speech if owner.get(r.label, splits[0]) == split] for split in splits}


def check_talkers_apart(speech: Mapping[str, Sequence[Recording]]) -> None:
    """Raise UserError if a talker's name is found in two splits."""
    talkers = {split: {recording.label for recording in recordings} for split, recordings in speech.items()}
    for one, other in itertools.combinations(talkers, 2):
        if common := sorted(talkers[one] & talkers[other]):
            found = f"talker {common[0]!r}: found in {one} and in {other}"
            raise UserError(
                f"{found}; choose other folders, or --talker, the pattern of a talker's name in a path"
            )


def split_noise(
    noise: Sequence[Recording], splits: Sequence[str], clip: int, seed: int, notes: list[str]
) -> dict[str, list[Recording]]:
    """Return the recordings or parts of them of each split, without overlap; types in training only are noted.

    A type with enough recordings is split by recording; else each of its recordings is cut in time, if every part
    has at least the `clip` samples of a segment. Other recordings go to training, the first split.
    """
    parts: dict[str, list[Recording]] = {split: [] for split in splits}
    others, uncut = splits[1:], []
    for kind, recordings in by_label(noise).items():
        if len(recordings) > len(others):
            count = held_out(len(recordings), len(others))
            order = generator(seed, "noise", kind).permutation(len(recordings))
            for number, place in enumerate(order):
                split = others[number // count] if number < len(others) * count else splits[0]
                parts[split].append(recordings[place])
            continue
        for recording in recordings:
            if recording.samples < len(splits) * clip:
                parts[splits[0]].append(recording)
                continue
            share = max(clip, int(TIME_SHARE * recording.samples))
            edges = [0, *(recording.samples - (len(others) - n) * share for n in range(len(splits)))]
            for split, (start, stop) in zip(splits, itertools.pairwise(edges), strict=True):
                parts[split].append(dataclasses.replace(recording, offset=start, samples=stop - start))
        if max(recording.samples for recording in recordings) < len(splits) * clip:
            uncut.append(kind)
    if uncut:
        notes.append(
            f"{listed(uncut, 'noise type')} only in {splits[0]}: too few recordings, and shorter than the "
            f"{len(splits) * clip / SAMPLE_RATE:g} s that could be cut for {' and '.join(splits)}"
        )
    return {split: sorted(those, key=lambda recording: str(recording.path)) for split, those in parts.items()}


def split_responses(
    found: Sequence[Recording], splits: Sequence[str], seed: int
) -> dict[str, Sequence[Recording]]:
    """Return the impulse responses of each split; if there are enough, each is used in one split only."""
    order = [found[place] for place in generator(seed, "rooms").permutation(len(found))]
    if len(order) <= len(splits):
        return dict.fromkeys(splits, order)
    count, others = max(1, len(order) // 10), splits[1:]
    parts = {split: order[n * count : (n + 1) * count] for n, split in enumerate(others)}
    return parts | {splits[0]: order[len(others) * count :]}


def held_out(count: int, splits: int) -> int:
    """Return how many of some talkers or recordings each of the other splits gets, leaving one for training."""
    return min(max(1, round(SHARE * count)), (count - 1) // max(splits, 1))


def by_label(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    """Return the recordings by talker or type, sorted by name."""
    labelled: dict[str, list[Recording]] = {}
    for recording in recordings:
        labelled.setdefault(recording.label, []).append(recording)
    return dict(sorted(labelled.items()))


def expect_some(found: Sequence[object], split: str, rejected: Sequence[str]) -> None:
    """Raise UserError with the first of the rejected files if nothing usable was found."""
    if not found:
        first = f"; {len(rejected)} files cannot be used, the first: {rejected[0]}" if rejected else ""
        raise UserError(f"found nothing to use for {split}{first}")


def listed(names: Sequence[str], what: str) -> str:
    """Return the number of names and the first ones, as in "3 types (a, b, c) are"."""
    more = ", …" if len(names) > SHOWN else ""
    several = len(names) > 1
    return f"{len(names)} {what}{'s' * several} ({', '.join(names[:SHOWN])}{more}) {'are' if several else 'is'}"
