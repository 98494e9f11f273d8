"""The settings of a data set: the arguments of tools.make_dataset."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Literal

from config import SAMPLE_RATE
from dataloader.random_draws import MixtureDraw, TypeWeights
from tools.common.errors import UserError
from tools.corpora.recordings import NOISE_TYPE, TALKER, Cut

LayoutName = Literal["voicebank-demand", "timit-noisex92", "librispeech", "dns-challenge"]
NOT_IN_COMMAND = ("out", "workers", "overwrite", "strict")  # the set's content does not depend on these


@dataclasses.dataclass(frozen=True)
class DatasetSettings:
    """Sources of a data set, and how it is made."""

    out: Path
    """Folder to write, with the packed splits and dataset.json."""

    # -- Where speech and noise come from --
    layout: LayoutName | None = None
    """A known corpus, unpacked in --root; it sets the folders, and other settings that are not given."""
    root: Path | None = None
    """Folder of the corpus named by --layout."""
    speech: tuple[Path, ...] = ()
    """Folders of clean speech, searched with all their subfolders."""
    noise: tuple[Path, ...] = ()
    """Folders of noise."""
    valid_speech: tuple[Path, ...] = ()
    """Speech for validation; without it, talkers of --speech are set aside."""
    valid_noise: tuple[Path, ...] = ()
    """Noise for validation; without it, parts of --noise are set aside."""
    test_speech: tuple[Path, ...] = ()
    """Speech for the test; without it, talkers of --speech are set aside."""
    test_noise: tuple[Path, ...] = ()
    """Other recordings of the same noise types, for the test; without it, parts of --noise are set aside."""
    unseen_noise: tuple[Path, ...] = ()
    """Noise for the test only: types that are not in --noise, or recordings of other sources."""
    unseen_types: tuple[str, ...] = ()
    """Types in --noise to keep for the test only."""
    valid_types: tuple[str, ...] = ()
    """Types in --noise to keep for validation only, which then measures noise that is not in training."""
    babble: bool = False
    """Add babble, four to eight training talkers at once, as a noise type."""
    reverb: str = ""
    """Rooms for the speech: a folder of impulse responses, or simulated (needs pyroomacoustics)."""
    reverb_target: Literal["reverberant", "early"] = "reverberant"
    """Target for reverberant speech. reverberant: the speech without the noise; early: the direct sound and its
    early reflections, so that late reverberation is removed as well."""
    early_ms: float = 50.0
    """With --reverb_target early, milliseconds after the direct sound that stay in the target."""

    # -- Ready-made pairs --
    pairs: tuple[Path, Path] | None = None
    """Folder of noisy and folder of clean files, matched by name, for training."""
    valid_pairs: tuple[Path, Path] | None = None
    """The same for validation; without it, talkers of --pairs are set aside."""
    test_pairs: tuple[Path, Path] | None = None
    """The same for the test; without it, talkers of --pairs are set aside."""
    pair_key: str = ""
    """Regular expression whose first group is equal in the two names of a pair."""

    # -- What is in a name --
    talker: str = TALKER
    """Regular expression for the talker in a path below the folder of speech; the first group that matched counts.
    By default the first subfolder, or the file name up to the first _, - or dot."""
    noise_type: str = NOISE_TYPE
    """The same for the noise type; by default the first subfolder, or the file name. Empty for one type."""
    speech_files: str = ""
    """Regular expression to search in the paths of speech files; others are not used."""
    valid_talkers: tuple[str, ...] = ()
    """Talkers to set aside for validation, instead of drawn ones."""
    test_talkers: tuple[str, ...] = ()
    """Talkers to set aside for the test; with --test_speech, its other talkers are used for validation."""

    # -- What is made of it --
    mix: Literal["once", "on-the-fly"] = "once"
    """once: mixtures on disk; on-the-fly: speech and noise separately, mixed again in every epoch."""
    seconds: float = 3.0
    """Length of every item; longer speech is cut, shorter padded with zeros."""
    cut: Cut = "first"
    """Clips of an utterance: the first, one from a random place, or every one."""
    n_train: int = 0
    """Training items; 0 for one from each clip of speech, more for several with other noises (pairs: at most one a
    clip)."""
    n_valid: int = 0
    """Validation items; 0 as for n_train."""
    n_test: int = 0
    """Utterances in each cell of the test grid, spread evenly over talkers and recordings; 0 for all clips."""
    train_snr_db: tuple[float, ...] = (-5, 0, 5, 10, 15)
    """SNRs of training and validation, equally likely."""
    train_snr_range: tuple[float, float] | None = None
    """Lowest and highest SNR of training and validation, instead of a list."""
    test_snr_db: tuple[float, ...] = (-10, -5, 0, 5, 10, 15, 20)
    """SNRs of the test grid."""
    test_rows: Literal["seen-unseen", "types"] = "seen-unseen"
    """First axis of the test grid: noise seen in training and unseen noise, or each noise type."""
    type_weights: TypeWeights = "root"
    """How often a noise type is drawn. equal: all equally often, a type of two seconds as often as one of an hour;
    root: in proportion to the square root of their minutes, which lies between that and their own proportions."""
    level_db: tuple[float, float] = (-40, -30)
    """Lowest and highest RMS of the speech in dBFS, before a mixture is scaled against clipping."""
    dtype: Literal["int16", "float32"] = "int16"
    """Type of the samples on disk."""
    seed: int = 0
    """Seed of everything random; 0 or more."""
    shard_gb: float = 4.0
    """Splits larger than this many GB are written as shards of that size."""
    licence: str = ""
    """A note on the licence of the recordings, kept in dataset.json."""

    # -- How it is made --
    workers: int = 0
    """Processes; 0 for one a core. The result does not depend on it."""
    strict: bool = False
    """Make nothing if any file cannot be used, instead of leaving it out."""
    overwrite: bool = False
    """Replace an existing set, once the new one is complete."""

    def __post_init__(self) -> None:
        """Check the settings. Raises UserError for one that cannot be used."""
        for field in ("seed", "n_train", "n_valid", "n_test"):
            _expect(0 <= getattr(self, field) < 2**31, field, getattr(self, field), "0 to 2147483647")
        _expect(0 < self.early_ms < float("inf"), "early_ms", self.early_ms, "a number of milliseconds above 0")
        _expect(0.5 <= self.seconds <= 60, "seconds", self.seconds, "0.5 to 60")
        _expect(0 < self.shard_gb < float("inf"), "shard_gb", self.shard_gb, "a number above 0")
        for field in ("train_snr_db", "test_snr_db", "train_snr_range", "level_db"):
            values = getattr(self, field)
            fine = values is None or (values and all(abs(value) <= 100 for value in values))
            _expect(fine, field, values, "decibels between -100 and 100")
        for field in ("train_snr_range", "level_db"):
            values = getattr(self, field)
            _expect(values is None or values[0] <= values[1], field, values, "the lower value first")
        _expect(self.level_db[1] <= 0, "level_db", self.level_db, "levels up to 0 dBFS")
        for field in ("test_snr_db", "train_snr_db"):
            values = getattr(self, field)
            differ = len({f"{value:g}" for value in values}) == len(values)
            _expect(differ, field, values, "values that differ in six digits")
        for field in ("talker", "noise_type", "pair_key", "speech_files"):
            self._check_pattern(field, groups=field != "speech_files")
        _expect(self.command.isprintable(), "the command", self.command, "text that UTF-8 can hold, in one line")
        both = {*self.unseen_types} & {*self.valid_types}
        _expect(not both, "valid_types", self.valid_types, "other types than unseen_types")
        _expect(self.layout or not self.root, "root", str(self.root), "it with --layout alone")
        if self.layout is None:
            self._check_sources()

    @property
    def samples(self) -> int:
        """Return the length of an item at 16 kHz."""
        return round(self.seconds * SAMPLE_RATE)

    @property
    def draw(self) -> MixtureDraw:
        """Return the distributions of SNR and level."""
        is_range = bool(self.train_snr_range)
        return MixtureDraw(self.train_snr_range or self.train_snr_db, is_range, self.level_db, self.type_weights)

    def asked(self, split: str) -> int:
        """Return the number of items asked for in a split; 0 for one from each clip."""
        return getattr(self, f"n_{split}")

    @property
    def command(self) -> str:
        """Return the command that makes this set again from the same folders."""
        words = ["python", "-m", "tools.make_dataset"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in NOT_IN_COMMAND or value == field.default:
                continue
            words.append(f"--{field.name}")
            if value is not True:
                words += [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
        return shlex.join(words)

    def _check_sources(self) -> None:
        if self.pairs is None and not self.speech:
            raise UserError("found no source; expected --speech with --noise, --pairs, or --layout with --root")
        if self.pairs is not None and self.speech:
            raise UserError("found --speech and --pairs; expected one of the two, a set for each")
        if self.speech and not self.noise:
            raise UserError("found --speech without --noise; expected a folder of noise")
        if self.pairs is not None and (self.mix == "on-the-fly" or self.reverb or self.babble):
            raise UserError("found --pairs with --mix on-the-fly, --reverb or --babble; expected speech and noise")
        if self.valid_talkers and (self.valid_speech or self.valid_pairs):
            raise UserError("found --valid_talkers with --valid_speech or --valid_pairs; expected one of the two")
        if self.test_talkers and self.test_pairs:
            raise UserError("found --test_talkers with --test_pairs; expected one of the two")
        if self.reverb_target == "early" and (not self.reverb or self.mix == "on-the-fly"):
            raise UserError("reverb_target: found early, expected it with --reverb, and with --mix once")

    def _check_pattern(self, field: str, groups: bool) -> None:
        pattern = getattr(self, field)
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise UserError(f"{field}: found {pattern!r}, expected a regular expression ({error})") from None
        _expect(compiled.groups or not groups or not pattern, field, pattern, "a group in parentheses")


def _expect(fine: object, name: str, found: object, expected: str) -> None:
    if not fine:
        raise UserError(f"{name}: found {found!r}, expected {expected}")
