"""The settings of a data set: the arguments of tools.make_dataset."""

import dataclasses
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import tyro
from msgspec import Meta

from config import SAMPLE_RATE, Count, check
from dataloader.random_draws import MixtureDraw, TypeWeights
from tools.common.errors import UserError
from tools.corpora.recordings import NOISE_TYPE, TALKER, Cut

LayoutName = Literal["voicebank-demand", "timit-noisex92", "librispeech", "dns-challenge"]
Snr = Annotated[float, Meta(ge=-100, le=100)]
Level = Annotated[float, Meta(ge=-100, le=0)]
NOT_IN_COMMAND = ("out", "processes", "overwrite", "strict")  # the set's content does not depend on these


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
    """Rooms for the speech: a folder of impulse responses, or simulated."""
    reverb_target: Literal["reverberant", "early"] = "reverberant"
    """Target for reverberant speech. reverberant: the speech without the noise; early: the direct sound and its
    early reflections, so that late reverberation is removed as well."""
    early_ms: Annotated[float, Meta(gt=0, le=10_000)] = 50.0
    """With --reverb_target early, milliseconds after the direct sound that stay in the target."""

    # -- Ready-made pairs --
    pairs: tuple[Path, Path] | None = None
    """Folder of noisy and folder of clean files, matched by name, for training."""
    valid_pairs: tuple[Path, Path] | None = None
    """The same for validation; without it, talkers of --pairs are set aside."""
    test_pairs: tuple[Path, Path] | None = None
    """The same for the test; without it, talkers of --pairs are set aside."""
    pair_key: str = r"(.*)\."
    """Regular expression whose first group is equal in the two names of a pair; by default all but the suffix."""

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
    seconds: Annotated[float, Meta(ge=0.5, le=60)] = 3.0
    """Length of every item; longer speech is cut, shorter padded with zeros."""
    cut: Cut = "first"
    """Clips of an utterance: the first, one from a random place, or every one."""
    n_train: Count = 0
    """Training items; 0 for one from each clip of speech, more for several with other noises (pairs: at most one a
    clip)."""
    n_valid: Count = 0
    """Validation items; 0 as for n_train."""
    n_test: Count = 0
    """Utterances in each cell of the test grid, spread evenly over talkers and recordings; 0 for all clips."""
    train_snr_db: Annotated[tuple[Snr, ...], Meta(min_length=1)] = (-5, 0, 5, 10, 15)
    """SNRs of training and validation, equally likely."""
    train_snr_range: tuple[Snr, Snr] | None = None
    """Lowest and highest SNR of training and validation, instead of a list."""
    test_snr_db: Annotated[tuple[Snr, ...], Meta(min_length=1)] = (-10, -5, 0, 5, 10, 15, 20)
    """SNRs of the test grid."""
    type_weights: TypeWeights = "root"
    """How often a noise type is drawn. equal: all equally often, a type of two seconds as often as one of an hour;
    root: in proportion to the square root of their minutes, which lies between that and their own proportions."""
    level_db: tuple[Level, Level] = (-40, -30)
    """Lowest and highest RMS of the speech in dBFS, before a mixture is scaled against clipping."""
    dtype: Literal["int16", "float32"] = "int16"
    """Type of the samples on disk."""
    seed: Count = 0
    """Seed of everything random; 0 or more."""
    licence: str = ""
    """A note on the licence of the recordings, kept in dataset.json."""

    # -- How it is made --
    processes: Annotated[int, Meta(ge=0, le=1024), tyro.conf.arg(aliases=("--workers",))] = 0
    """Processes; 0 for one a core. The result does not depend on it."""
    strict: bool = False
    """Make nothing if any file cannot be used, instead of leaving it out."""
    overwrite: bool = False
    """Replace an existing set, once the new one is complete."""

    def __post_init__(self) -> None:
        """Check the settings. Raises UserError for one that cannot be used."""
        check(self)
        for name in ("talker", "noise_type", "pair_key", "speech_files"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise UserError(f"{name}: found a wrong regular expression ({error})") from None
        snr_db = max(*self.test_snr_db, *(self.train_snr_range or self.train_snr_db))
        for wrong, message in (
            (not (self.speech or self.pairs or self.layout), "found no --speech, --pairs or --layout"),
            (self.speech and self.pairs, "found --speech and --pairs, expected one of the two"),
            (self.speech and not (self.noise or self.layout), "found --speech without --noise"),
            (self.pairs and (self.mix != "once" or self.reverb or self.babble), "pairs: are mixed already"),
            (self.reverb_target == "early" and not self.reverb, "reverb_target: found early without --reverb"),
            (self.reverb_target == "early" and self.mix != "once", "reverb_target: early needs --mix once"),
            (len({*self.test_snr_db}) < len(self.test_snr_db), "test_snr_db: found a value twice"),
            (self.dtype == "int16" and snr_db > 40, f"found {snr_db:g} dB SNR, beyond 40 take --dtype float32"),
        ):
            if wrong:
                raise UserError(message)

    @property
    def samples(self) -> int:
        """Return the length of an item at 16 kHz."""
        return round(self.seconds * SAMPLE_RATE)

    @property
    def distributions(self) -> MixtureDraw:
        """Return the distributions of SNR and level."""
        snr_db = self.train_snr_range or self.train_snr_db
        return MixtureDraw(snr_db, bool(self.train_snr_range), self.level_db, self.type_weights)

    def command(self, given: Collection[str] = ()) -> str:
        """Return the command that makes this set again. given: settings to name also with their default values."""
        words = ["python", "-m", "tools.make_dataset"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in NOT_IN_COMMAND or (value == field.default and field.name not in given):
                continue
            words.append(f"--{field.name}")
            if value is not True:
                words += [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
        return shlex.join(words)
