"""From settings to the sources of items: reading folders and splitting them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.common.seeding import generator
from tools.corpora.mixtures import MixtureSource
from tools.corpora.noise_sources import BABBLE, NoiseSource
from tools.corpora.pairs import Pair, PairSource, find_pairs
from tools.corpora.recordings import (
    MIN_NOISE_SAMPLES,
    MIN_SAMPLES,
    Problem,
    Recording,
    Selection,
    drop_copies,
    find_recordings,
)
from tools.corpora.rooms import SIMULATED, RecordedRooms, Rooms, SimulatedRooms
from tools.corpora.settings import DatasetSettings
from tools.corpora.splits import Found, NoisePart, check_talkers_apart, listed, split_by_talker, split_noise, whole

SPLITS = ("train", "valid", "test")
Source = MixtureSource | PairSource


class SourceFinder:
    """Reads the folders of the settings and splits what is in them.

    Files that are left out are added to `problems`, what the user may want to know to `notes`.
    """

    def __init__(
        self, settings: DatasetSettings, pool: ProcessPool, problems: list[Problem], notes: list[str]
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.problems = problems
        self.notes = notes

    def find(self) -> dict[str, Source]:
        """Return the source of the items of each split. Raises UserError if one has nothing to use."""
        settings = self.settings
        if settings.pairs:
            return dict.fromkeys(SPLITS, PairSource(settings, self._pairs()))
        mixed = SPLITS[:2] if settings.test_pairs else SPLITS
        sources: dict[str, Source] = dict.fromkeys(mixed, self._mixture_source(mixed))
        if settings.test_pairs:
            pairs = self._find_pairs(settings.test_pairs)
            self._expect_some(pairs, settings.test_pairs[0], "test")
            sources["test"] = PairSource(settings, {"test": pairs})
        return sources

    # -- Speech and noise --

    def _mixture_source(self, splits: Sequence[str]) -> MixtureSource:
        settings = self.settings
        speech = self._speech(splits)
        noise, seen, unseen = self._noise(splits)
        babble = self._babble_speech(speech["train"], splits)
        if settings.babble and any(part.recording.group == BABBLE for parts in noise.values() for part in parts):
            raise UserError(f"{named(settings.noise)}: found noise of type {BABBLE}, expected none with --babble")
        training = {split: self._noise_source(noise[split], babble[split]) for split in splits[:2]}
        rows = {}
        if "test" in splits:
            if seen or babble["test"]:
                rows |= self._rows("seen", self._noise_source(seen, babble["test"]))
            if unseen:
                rows |= self._rows("unseen", self._noise_source(unseen))
            else:
                self.notes.append(
                    "the test has no noise that is not in training; for some, add --unseen_noise DIR, or "
                    "--unseen_types with types of --noise"
                )
        for split in splits[:2]:
            if not training[split].types:
                raise UserError(
                    f"{named(settings.noise)}: found no noise for {split}, expected longer or more recordings"
                )
        return MixtureSource(settings, speech, training, rows, self._rooms(splits))

    def _noise_source(self, parts: Sequence[NoisePart], babble: Sequence[Recording] = ()) -> NoiseSource:
        return NoiseSource(parts, self.settings.samples, self.settings.type_weights, babble)

    def _speech(self, splits: Sequence[str]) -> dict[str, list[Recording]]:
        settings = self.settings
        given = {"test": settings.test_speech, "valid": settings.valid_speech, "train": settings.speech}
        how = settings.talker, settings.cut, settings.speech_files
        found = {split: self._recordings(given[split], *how) for split in reversed(splits) if given[split]}
        drop_copies(found.values(), self.problems)
        if "test" in found and settings.test_talkers:
            wanted = {talker.lower() for talker in settings.test_talkers}
            others = [recording for recording in found["test"] if recording.group.lower() not in wanted]
            found["test"] = [recording for recording in found["test"] if recording.group.lower() in wanted]
            found.setdefault("valid", others)
        return self._with_all_splits(found, given, splits)

    def _noise(self, splits: Sequence[str]) -> tuple[dict[str, list[NoisePart]], list[NoisePart], list[NoisePart]]:
        """Return parts for training and validation, for the test's seen and for its unseen noise."""
        settings = self.settings
        folders = {"valid": settings.valid_noise, "noise": settings.noise}
        if "test" in splits:
            folders = {"unseen": settings.unseen_noise, "seen": settings.test_noise} | folders
        how = settings.noise_type, "whole", "", MIN_NOISE_SAMPLES
        found = {name: self._recordings(given, *how) for name, given in folders.items() if given}
        drop_copies(found.values(), self.problems)
        types = {recording.group for recording in found["noise"]}
        for setting in ("unseen_types", "valid_types"):
            for kind in getattr(settings, setting):
                if kind not in types:
                    raise UserError(f"{setting}: found {kind!r}, expected some of {', '.join(sorted(types))}")
        unseen = found.get("unseen", []) + [r for r in found["noise"] if r.group in settings.unseen_types]
        kept = found.get("valid", []) + [r for r in found["noise"] if r.group in settings.valid_types]
        noise = [r for r in found["noise"] if r.group not in (*settings.unseen_types, *settings.valid_types)]
        self._expect_some(noise, settings.noise, "training")
        cut = [s for s in splits if not (s == "test" and "seen" in found) and not (s == "valid" and kept)]
        parts, notes = split_noise(noise, cut, settings.samples, settings.seed)
        if kept:
            parts["valid"] = [whole(recording) for recording in kept]
        self.notes += notes
        seen = [whole(recording) for recording in found["seen"]] if "seen" in found else parts.get("test", [])
        training = {recording.group for recording in noise}
        for part in seen:
            if part.recording.group not in training:
                raise UserError(
                    f"{part.recording.path}: noise type {part.recording.group} is not in {named(settings.noise)}, "
                    "expected one of its types; give other types as --unseen_noise"
                )
        if shared := sorted({recording.group for recording in unseen} & training):
            self.notes.append(
                f"unseen noise: {listed(shared, 'type')} of that name in training too, by other recordings"
            )
        if "test" in splits and not seen and not unseen and not settings.babble:
            raise UserError(
                f"{named(settings.noise)}: found no noise for the test, expected recordings long enough to be "
                "cut, --test_noise or --unseen_noise"
            )
        return parts, seen, [whole(recording) for recording in unseen]

    def _rows(self, name: str, source: NoiseSource) -> dict[str, tuple[NoiseSource, tuple[str, ...]]]:
        if self.settings.test_rows == "types":
            return {kind: (source, (kind,)) for kind in source.types}
        order = generator(self.settings.seed, "test types", name).permutation(len(source.types))
        return {name: (source, tuple(source.types[place] for place in order))}

    def _babble_speech(self, speech: Sequence[Recording], splits: Sequence[str]) -> dict[str, list[Recording]]:
        """Return training talkers' recordings for the babble of each split; none is used in two splits."""
        if not self.settings.babble:
            return {split: [] for split in splits}
        return {split: speech[number :: len(splits)] for number, split in enumerate(splits)}

    def _rooms(self, splits: Sequence[str]) -> Rooms | None:
        settings = self.settings
        if not settings.reverb:
            return None
        if settings.reverb == SIMULATED:
            return SimulatedRooms()
        folder = Path(settings.reverb)
        found = self._recordings((folder,), "", "whole", shortest=1)
        self._expect_some(found, folder, "reverb")
        return RecordedRooms(found, splits, settings.seed)

    def _recordings(
        self, folders: Sequence[Path], group: str, cut: str, files: str = "", shortest: int = MIN_SAMPLES
    ) -> list[Recording]:
        settings = self.settings
        selection = Selection(group, settings.samples, files, cut, settings.seed, shortest)
        found = []
        for folder in folders:
            found += find_recordings(folder, selection, self.pool, self.problems)
        return found

    # -- Pairs --

    def _pairs(self) -> dict[str, list[Pair]]:
        settings = self.settings
        given = {"train": settings.pairs, "valid": settings.valid_pairs, "test": settings.test_pairs}
        found = {split: self._find_pairs(folders) for split, folders in given.items() if folders}
        noisy = {split: folders and folders[0] for split, folders in given.items()}
        return self._with_all_splits(found, noisy, SPLITS)

    def _find_pairs(self, folders: tuple[Path, Path]) -> list[Pair]:
        asked = self.settings
        selection = Selection(asked.talker, asked.samples, asked.speech_files, asked.cut, asked.seed)
        return find_pairs(folders, asked.pair_key, selection, self.pool, self.problems)

    # -- Both --

    def _with_all_splits(
        self,
        found: dict[str, list[Found]],
        given: Mapping[str, Path | Sequence[Path] | None],
        splits: Sequence[str],
    ) -> dict[str, list[Found]]:
        """Return what was found for each split; for one without a folder, talkers of the training set aside."""
        settings = self.settings
        missing = [split for split in splits if split not in found]
        if missing:
            self._expect_some(found["train"], given["train"], "training")
            named = {"valid": settings.valid_talkers, "test": settings.test_talkers}
            found |= split_by_talker(found["train"], ("train", *missing), settings.seed, named)
        found = {split: found[split] for split in splits}
        for split, those in found.items():
            self._expect_some(those, given[split] or given["train"], split)
        check_talkers_apart(found)
        return found

    def _expect_some(self, found: Sequence[object], folder: object, split: str) -> None:
        """Raise UserError with the first of the problems if nothing usable was found."""
        if found:
            return
        problems = self.problems
        first = f"; {len(problems)} files cannot be used, the first: {problems[0]}" if problems else ""
        raise UserError(f"{named(folder)}: found nothing to use for {split}{first}")


def named(folders: object) -> str:
    """Return the folders of an option as text."""
    return " ".join(map(str, folders)) if isinstance(folders, (tuple, list)) else str(folders)
