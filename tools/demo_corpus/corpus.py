"""Synthetic speech and synthetic noise, packed for training and testing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from config import DEMO_DATA, SAMPLE_RATE
from dataloader.mixing import at_level, headroom, mix, noise_gain, quantise
from tools.common.errors import UserError
from tools.common.seeding import generator
from tools.corpora.packing import PackedSetWriter
from tools.demo_corpus.espeak import synthesise
from tools.demo_corpus.noises import SEEN, UNSEEN, make_noise
from tools.demo_corpus.room import draw_room, record
from tools.demo_corpus.sentences import draw_sentence
from tools.demo_corpus.talkers import Talker, draw_talkers

NOISE_TYPES = {"seen": SEEN, "unseen": UNSEEN}
TRAIN_SNR_DB = (-5, 0, 5, 10, 15)
TEST_SNR_DB = (-10, -5, 0, 5, 10, 15, 20)
LEVEL_DB = (-33.0, -20.0)  # RMS of the speech in dBFS, before scaling against clipping
TALKERS = {"train": 80, "valid": 20, "test": 12}
BABBLE_TALKERS = 32
PAUSE_SECONDS = (0.08, 0.25)
LICENCE = (
    "Everything here is synthetic, spoken by eSpeak NG from made-up sentences and mixed with computed noise; "
    "it may be used for any purpose."
)


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
    counts = n_train, n_valid, n_test
    if seed < 0 or not all(1 <= count < 2**31 for count in counts) or not 0.5 <= seconds <= 60:
        raise UserError(
            f"seed must be 0 or more (is {seed}), n_train, n_valid and n_test from 1 to 2147483647 "
            f"(are {n_train}, {n_valid} and {n_test}), seconds 0.5 to 60 (is {seconds})"
        )
    samples = round(seconds * SAMPLE_RATE)
    corpus = _Corpus(seed, samples)
    with (
        PackedSetWriter(out, samples, np.int16, overwrite) as writer,
        tqdm(total=sum(counts), desc=f"making {out}", unit="utterance", disable=None) as bar,
    ):
        for split, count in (("train", n_train), ("valid", n_valid)):
            array = writer.create(split, count)
            for index in range(count):
                array[index], item = corpus.training_item(split, index)
                writer.record(split, item)
                bar.update()
        array = writer.create("test", len(NOISE_TYPES), len(TEST_SNR_DB), n_test)
        for utterance in range(n_test):
            for position, mixture, item in corpus.test_items(utterance):
                array[(*position, utterance)] = mixture
                writer.record("test", item)
            bar.update()
        command = f"--seed {seed} --n_train {n_train} --n_valid {n_valid} --n_test {n_test} --seconds {seconds}"
        writer.describe(
            {
                "format": 1,
                "name": "demo",
                "sample_rate": SAMPLE_RATE,
                "dtype": "int16",
                "samples": samples,
                "seed": seed,
                "noise_types": list(NOISE_TYPES),
                "snr_db": list(TEST_SNR_DB),
                "licence": LICENCE,
                "command": f"python -m tools.make_demo_corpus {command}",
            }
        )


def ensure_demo_corpus(folder: Path = Path(DEMO_DATA)) -> None:
    """Make the demo corpus if it does not exist; another program may make it at the same time."""
    if not folder.exists():
        try:
            make_demo_corpus(folder)
        except (UserError, OSError):
            if not folder.exists():
                raise


class _Corpus:
    """Makes the items one by one. Each has its own random generator and does not depend on their number."""

    def __init__(self, seed: int, samples: int) -> None:
        self.seed = seed
        self.samples = samples
        self.talkers = {
            split: draw_talkers(split, count, generator(self.seed, split, "talkers"))
            for split, count in TALKERS.items()
        }
        self._bank = np.stack(
            [
                self._speak(talker, "train", generator(self.seed, "bank", number))[0]
                for number, talker in enumerate(self.talkers["train"][:BABBLE_TALKERS])
            ]
        )

    def training_item(self, split: str, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return an item of train or valid, int16 `[2, samples]`, and its description."""
        rng = generator(self.seed, split, index)
        talker = self.talkers[split][index % len(self.talkers[split])]
        clean, speech = self._speak(talker, split, rng)
        kind = SEEN[rng.integers(len(SEEN))]
        snr_db = int(rng.choice(TRAIN_SNR_DB))
        noise = make_noise(kind, rng, self.samples, self._others(talker))
        mixture = mix(clean, noise, snr_db)
        item = speech | _describe_mixture(kind, snr_db, mixture.gain, mixture.scale)
        return np.stack([mixture.noisy, mixture.clean]), item

    def test_items(self, utterance: int) -> Iterator[tuple[tuple[int, int], np.ndarray, dict[str, Any]]]:
        """Yield one utterance in every cell of the grid: (noise type, dB), int16 `[2, samples]`, its description.

        The clean speech is identical in all cells, and the noise in all cells of a noise type except for its gain:
        cells differ only in noise type and SNR.
        """
        rng = generator(self.seed, "test", utterance)
        talker = self.talkers["test"][utterance % len(self.talkers["test"])]
        clean, speech = self._speak(talker, "test", rng)
        kinds = [kinds[utterance % len(kinds)] for kinds in NOISE_TYPES.values()]
        noises = [make_noise(kind, rng, self.samples, self._bank) for kind in kinds]
        loudest = [noise_gain(clean, noise, min(TEST_SNR_DB)) * noise for noise in noises]
        scale = min(headroom(clean, noise) for noise in loudest)
        for row, noise_type in enumerate(NOISE_TYPES):
            for column, snr_db in enumerate(TEST_SNR_DB):
                gain = noise_gain(clean, noises[row], snr_db)
                noisy_and_clean = np.stack(quantise(scale * clean, scale * gain * noises[row]))
                cell = {"noise_type": noise_type, "utterance": utterance}
                item = cell | speech | _describe_mixture(kinds[row], snr_db, gain, scale)
                yield (row, column), noisy_and_clean, item

    def _speak(self, talker: Talker, split: str, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a recording of sentences with short pauses, float64 `[samples]`, and its description."""
        pieces, sentences, length = [], [], 0
        while length < self.samples:
            sentence = draw_sentence(split, rng)
            spoken = synthesise(sentence, talker.voice, talker.variant, talker.pitch, talker.rate)
            pause = np.zeros(round(rng.uniform(*PAUSE_SECONDS) * SAMPLE_RATE), np.float32)
            pieces += [spoken, pause]
            sentences.append(sentence)
            length += spoken.size + pause.size
        room = draw_room(rng)
        level_db = round(rng.uniform(*LEVEL_DB), 2)
        recording = at_level(record(np.concatenate(pieces)[: self.samples], room, rng), level_db)
        description = {"text": " ".join(sentences), **asdict(room), "level_dbfs": level_db}
        return recording, asdict(talker) | description

    def _others(self, talker: Talker) -> np.ndarray:
        """Return speech of training talkers other than this one, for noises."""
        return self._bank[[other != talker for other in self.talkers["train"][:BABBLE_TALKERS]]]


def _describe_mixture(noise: str, snr_db: int, gain: float, scale: float) -> dict[str, Any]:
    """Return the record of a mixture: `scale` is the factor of the speech, `scale * gain` that of the noise."""
    return {"noise": noise, "snr_db": snr_db, "gain": float(f"{gain:.6g}"), "scale": float(f"{scale:.6g}")}
