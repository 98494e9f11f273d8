"""The demo corpus and the parts it is made with: speech, noises, recordings."""

import json
import re

import numpy as np
import pytest
from sets import describe

from tools.common.errors import UserError
from tools.demo_corpus import corpus as demo_corpus
from tools.demo_corpus.corpus import ACCENTS, VARIANTS, make_demo_corpus
from tools.demo_corpus.espeak import synthesise
from tools.demo_corpus.noises import SEEN, UNSEEN, make_noise
from tools.demo_corpus.sentences import draw_sentence

FILES = ("train.npy", "valid.npy", "test.npy", "dataset.json", "items.jsonl")
TINY = {"n_train": 12, "n_valid": 4, "n_test": 3, "seconds": 1.0}
SENTENCE = "The joyful judge measured three boxes of cheese."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A tiny corpus: its folder, its arrays, its description."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo_corpus(folder, **TINY)
    arrays = {split: np.load(folder / f"{split}.npy") for split in ("train", "valid", "test")}
    return folder, arrays, describe(folder)


# -- The corpus --


def test_the_same_seed_gives_the_same_bytes_in_any_folder(corpus, tmp_path):
    folder, _, _ = corpus
    make_demo_corpus(tmp_path / "elsewhere" / "again", **TINY)
    for name in FILES:
        assert (tmp_path / "elsewhere" / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    make_demo_corpus(tmp_path / "other", seed=1, **TINY)
    assert not np.array_equal(np.load(tmp_path / "other" / "train.npy"), corpus[1]["train"])


def test_cells_of_the_test_grid_differ_in_nothing_but_noise(corpus):
    _, arrays, _ = corpus
    test = arrays["test"].astype(np.float64)
    assert np.array_equal(test[..., 1, :], np.broadcast_to(test[:1, :1, :, 1, :], test[..., 1, :].shape))
    noise = test[..., 0, :] - test[..., 1, :]
    noise /= noise.std(axis=-1, keepdims=True)
    likeness = np.mean(noise * noise[:, :1], axis=-1)
    assert np.all(likeness > 0.999)  # over dB: one noise segment at seven gains, rounded
    assert np.all(np.abs(np.mean(noise[0] * noise[1], axis=-1)) < 0.5)  # seen and unseen: two noises


def test_no_talker_and_no_sentence_of_the_test_is_heard_in_training(corpus):
    _, _, description = corpus
    items = description["items"]
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not set(VARIANTS[first]) & set(VARIANTS[second])
        for key in ("talker", "variant", "text"):
            assert not {item[key] for item in items[first]} & {item[key] for item in items[second]}
    assert {item["noise_type"] for item in items["train"] + items["valid"]} <= set(SEEN)
    assert {item["noise_type"] for item in items["test"] if item["row"] == "unseen"} == set(UNSEEN)


def test_a_sentence_belongs_to_one_split_even_when_the_same_words_are_drawn():
    said = {
        split: {draw_sentence(split, np.random.default_rng(seed)) for seed in range(100)} for split in VARIANTS
    }
    assert len(set.union(*said.values())) == sum(len(sentences) for sentences in said.values())


def test_clean_speech_has_no_digital_silence(corpus):
    """It would make log-spectral losses and PESQ judge the pauses and nothing else."""
    _, arrays, _ = corpus
    frames = arrays["train"][:, 1, :16000].reshape(-1, 160)
    assert np.mean(np.all(frames == 0, axis=1)) < 0.001


def test_the_description_names_no_place_on_this_machine(corpus):
    folder, _, description = corpus
    text = json.dumps(description)
    assert str(folder) not in text
    assert not re.search(r'"/|[A-Z]:\\', text)


def test_of_two_trainings_that_begin_at_once_both_find_the_corpus(tmp_path, monkeypatch):
    def made_by_the_other_one_meanwhile(folder):
        folder.mkdir()
        raise UserError(f"{folder} exists already")

    monkeypatch.setattr(demo_corpus, "make_demo_corpus", made_by_the_other_one_meanwhile)
    demo_corpus.ensure_demo_corpus(tmp_path / "demo")


@pytest.mark.parametrize("wrong", [{"n_test": 0}, {"seconds": 0.1}])
def test_sizes_that_make_no_corpus_are_refused_before_any_work(wrong, tmp_path):
    with pytest.raises(UserError, match=str(next(iter(wrong.values())))):
        make_demo_corpus(tmp_path / "demo", **(TINY | wrong))
    assert not list(tmp_path.iterdir())


# -- Speech --


@pytest.mark.parametrize("variant", ["f2", "m3", "grandpa", "Reed"])
def test_a_sentence_sounds_the_same_whatever_was_spoken_before(variant):
    first = synthesise(SENTENCE, "en-gb-scotland", variant)
    synthesise("Something else.", "en-us", "f5", pitch=60)
    assert np.array_equal(first, synthesise(SENTENCE, "en-gb-scotland", variant))


def test_every_talker_of_the_corpus_can_speak():
    voices = [(accent, "f1") for accent in ACCENTS]
    voices += [("en-us", variant) for variants in VARIANTS.values() for variant in variants]
    spoken = [synthesise("Joyce found it.", *voice) for voice in voices]
    assert all(speech.dtype == np.float32 and 0.4 < speech.size / 16000 < 3 for speech in spoken)
    assert all(0.01 < np.abs(speech).max() < 0.99 for speech in spoken)
    assert len({speech.tobytes() for speech in spoken}) == len(set(voices))


# -- Noises --


@pytest.fixture(scope="module")
def noises():
    rng = np.random.default_rng(0)
    speech = np.stack([np.resize(synthesise(SENTENCE, "en-us", v), 48000) for v in VARIANTS["train"][:9]])
    return {kind: [make_noise(kind, rng, 48000, speech) for _ in range(4)] for kind in (*SEEN, *UNSEEN)}


def test_clips_of_one_kind_are_not_one_clip(noises):
    for kind, clips in noises.items():
        assert all(np.sqrt(np.mean(clip**2)) == pytest.approx(1) for clip in clips), kind
        likeness = np.abs(np.corrcoef(clips)[np.triu_indices(len(clips), 1)])
        assert np.all(likeness < 0.3), kind
