"""The demo corpus: synthetic speech and noise, packed like other recordings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from config import DEMO_DATA, SAMPLE_RATE
from dataloader.impulse_response import draw_response, reverberate
from dataloader.random_draws import generator
from tools.common.errors import UserError
from tools.corpora.build import pack
from tools.corpora.mixtures import make_plan
from tools.corpora.packing import new_folder
from tools.corpora.recordings import Recording
from tools.corpora.settings import DatasetSettings
from tools.demo_corpus.espeak import synthesise
from tools.demo_corpus.noises import SEEN, UNSEEN, make_noise
from tools.demo_corpus.sentences import draw_sentence

LEVEL_DB = (-33.0, -20.0)  # RMS of the speech in dBFS, before scaling against clipping
TALKERS = {"train": 80, "valid": 20, "test": 12, "babble": 32}
PAUSE_SECONDS = (0.08, 0.25)
ROOM = {"rt60_s": (0.15, 0.35), "direct_db": (7, 13), "first_reflection_s": (0.002, 0.002)}
FLOOR_DB = (45, 55)  # speech over the microphone's own noise
LICENCE = (
    "Everything here is synthetic, spoken by eSpeak NG from made-up sentences and mixed with computed noise; "
    "it may be used for any purpose."
)
ACCENTS = ["en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"]
# eSpeak's variants by split, so that no voice of the test is in training. Similar variants (Gene2 and Gene, linda
# and belinda) share a split or are left out, and so are whispers, robots, and variants that echo or clip.
VARIANTS = {
    "train": (
        *("f1", "f2", "f5", "aunty", "belinda", "linda", "anika", "shelby"),
        *("m2", "m4", "m5", "m6", "m7", "adam", "boris", "ed", "grandpa", "pedro", "victor", "miguel"),
    ),
    "valid": ("f4", "grandma", "steph2", "m1", "Gene", "paul"),
    "test": ("f3", "Annie", "Andrea", "m3", "Michael", "robert"),
}


def make_demo_corpus(
    out: Path = Path(DEMO_DATA),
    seed: int = 0,
    n_train: int = 400,
    n_valid: int = 40,
    n_test: int = 12,
    seconds: float = 3.0,
    overwrite: bool = False,
) -> None:
    """Make the demo corpus: synthetic speech and noise, mixed and packed; the same bytes for the same seed.

    Training, validation and test have their own talkers and sentences. Raises UserError for arguments that cannot
    be used, an existing folder, and a missing eSpeak NG.

    Args:
        out: Folder to write, with train.npy, valid.npy, test.npy and dataset.json.
        seed: Seed of everything random; 0 or more.
        n_train: Training items.
        n_valid: Validation items.
        n_test: Utterances in each cell of the test's noise type × SNR grid.
        seconds: Length of every item.
        overwrite: Replace an existing set, once the new one is complete.
    """
    counts = {"train": n_train, "valid": n_valid, "test": n_test}
    if min(counts.values()) < 1:
        raise UserError(
            f"n_train, n_valid and n_test: found {n_train}, {n_valid} and {n_test}, expected 1 or more"
        )
    folders = {"speech": (Path("speech"),), "noise": (Path("noise"),)}  # names only: nothing is read
    numbers = {f"n_{split}": count for split, count in counts.items()} | {"seed": seed, "seconds": seconds}
    settings = DatasetSettings(out, **folders, **numbers, level_db=LEVEL_DB, processes=1)
    with new_folder(out, overwrite) as folder:
        speech = {split: make_speech(seed, split, count, settings.samples) for split, count in counts.items()}
        noise = make_noises(seed, counts, settings.samples)
        command = " ".join(f"--{name} {value}" for name, value in numbers.items())
        about = {"name": "demo", "licence": LICENCE, "command": f"python -m tools.make_demo_corpus {command}"}
        pack(folder, make_plan(settings, speech, noise, {}), about)


def ensure_demo_corpus(folder: Path = Path(DEMO_DATA)) -> None:
    """Make the demo corpus if it does not exist; another program may make it at the same time."""
    if not folder.exists():
        print(f"making {folder}, once: synthetic speech and noise", flush=True)
        try:
            make_demo_corpus(folder)
        except (UserError, OSError):
            if not folder.exists():
                raise


def make_speech(seed: int, split: str, count: int, samples: int) -> list[Recording]:
    """Return recordings of sentences with short pauses, by the talkers of a split in turn."""
    talkers = draw_talkers(split, generator(seed, split, "talkers"))
    speech = []
    for number in tqdm(range(count), f"speaking {split}", unit="utterance", leave=False, disable=None):
        rng, talker = generator(seed, split, number), talkers[number % len(talkers)]
        pieces, sentences = [np.zeros(0)], []
        while sum(piece.size for piece in pieces) < samples:
            sentences.append(draw_sentence("train" if split == "babble" else split, rng))
            spoken = synthesise(sentences[-1], talker.voice, talker.variant, talker.pitch, talker.rate)
            pieces += [spoken, np.zeros(round(rng.uniform(*PAUSE_SECONDS) * SAMPLE_RATE))]
        response, room = draw_response(rng, **ROOM)
        audio = reverberate(np.concatenate(pieces)[:samples], response)
        # Pauses of synthetic speech are digital silence, in which log-spectral losses and PESQ count the slightest
        # residue as a large error. The microphone's own noise makes PESQ of noisy speech like that of recordings.
        audio += np.sqrt(np.mean(audio**2)) * 10 ** (-rng.uniform(*FLOOR_DB) / 20) * rng.standard_normal(samples)
        about = {**asdict(talker), "text": " ".join(sentences), **room}
        speech.append(
            Recording(Path(f"speech/{split}/{number}"), talker.talker, samples, audio=audio, about=about)
        )
    return speech


def make_noises(seed: int, counts: Mapping[str, int], samples: int) -> dict[str, list[Recording]]:
    """Return as many recordings of noise as there are items, of all types equally many."""
    bank = np.stack([recording.audio for recording in make_speech(seed, "babble", TALKERS["babble"], samples)])
    noise = {}
    for name, split in {"train": "train", "valid": "valid", "seen": "test", "unseen": "test"}.items():
        kinds = UNSEEN if name == "unseen" else SEEN
        noise[name] = []
        rounds = range(-(-counts[split] // len(kinds)))
        for number in tqdm(rounds, f"making noise for {name}", leave=False, disable=None):
            for kind in kinds:
                audio = make_noise(kind, generator(seed, name, kind, number), samples, bank)
                path = Path(f"noise/{name}/{kind}/{number}")
                noise[name].append(Recording(path, kind, samples, audio=audio.astype(np.float32)))
    return noise


@dataclass(frozen=True)
class Talker:
    """Arguments of `synthesise`, and the talker's name."""

    talker: str
    voice: str
    variant: str
    pitch: int
    rate: int


def draw_talkers(split: str, rng: np.random.Generator) -> list[Talker]:
    """Return random talkers of a split, with all its variants about equally often."""
    variants, count = VARIANTS["train" if split == "babble" else split], TALKERS[split]
    order = np.concatenate([rng.permutation(len(variants)) for _ in range(-(-count // len(variants)))])
    return [
        Talker(
            talker=f"{split}_{number:02d}",
            voice=ACCENTS[rng.integers(len(ACCENTS))],
            variant=variants[order[number]],
            pitch=int(rng.integers(38, 63)),
            rate=int(rng.integers(145, 196)),
        )
        for number in range(count)
    ]
