"""The demo corpus and the parts it is made with: speech, noises, recordings, mixtures, packed sets."""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis

from dataloader.mixing import mix
from tools import make_demo_corpus as command
from tools.cli import UserError, run_command
from tools.espeak import synthesise
from tools.make_demo_corpus import make_demo_corpus
from tools.noises import SEEN, UNSEEN, make_noise
from tools.packing import PackedSetWriter
from tools.sentences import draw_sentence
from tools.talkers import ACCENTS, VARIANTS

FILES = ("train.npy", "valid.npy", "test.npy", "dataset.json")
TINY = {"n_train": 12, "n_valid": 4, "n_test": 3, "seconds": 1.0}
SENTENCE = "The joyful judge measured three boxes of cheese."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A tiny corpus: its folder, its arrays, its description."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo_corpus(folder, **TINY)
    arrays = {split: np.load(folder / f"{split}.npy") for split in ("train", "valid", "test")}
    return folder, arrays, json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


def snr_db(item):
    noisy, clean = item.astype(np.float64)
    return 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))


def labelled_items(corpus):
    _, arrays, description = corpus
    for split in ("train", "valid"):
        yield from zip(arrays[split], description["items"][split], strict=True)
    for item in description["items"]["test"]:
        noise_type = description["noise_types"].index(item["noise_type"])
        decibel = description["snr_db"].index(item["snr_db"])
        yield arrays["test"][noise_type, decibel, item["utterance"]], item


# -- The corpus --


def test_the_same_seed_gives_the_same_bytes_in_any_folder(corpus, tmp_path):
    folder, _, _ = corpus
    make_demo_corpus(tmp_path / "elsewhere" / "again", **TINY)
    for name in FILES:
        assert (tmp_path / "elsewhere" / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_another_seed_gives_other_items_and_a_smaller_set_the_first_ones(corpus, tmp_path):
    _, arrays, _ = corpus
    small = TINY | {"n_train": 2, "n_valid": 1, "n_test": 1}
    for seed, equal in ((0, True), (1, False)):
        make_demo_corpus(tmp_path / str(seed), seed=seed, **small)
        train, test = (np.load(tmp_path / str(seed) / f"{split}.npy") for split in ("train", "test"))
        assert np.array_equal(train, arrays["train"][:2]) is equal
        assert np.array_equal(test, arrays["test"][:, :, :1]) is equal


def test_the_files_have_the_shapes_that_their_description_gives(corpus):
    _, arrays, description = corpus
    samples = description["samples"]
    assert arrays["train"].shape == (12, 2, samples)
    assert arrays["valid"].shape == (4, 2, samples)
    assert arrays["test"].shape == (len(description["noise_types"]), len(description["snr_db"]), 3, 2, samples)
    assert all(str(array.dtype) == description["dtype"] for array in arrays.values())


def test_every_item_has_the_snr_of_its_label_and_nothing_clips_or_is_silent(corpus):
    for item, label in labelled_items(corpus):
        assert snr_db(item) == pytest.approx(label["snr_db"], abs=0.01)
        assert np.abs(item.astype(int)).max() <= 0.99 * 32768 + 1
        assert item[1].std() > 100


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
    assert {item["noise"] for item in items["train"] + items["valid"]} <= set(SEEN)
    assert {item["noise"] for item in items["test"] if item["noise_type"] == "unseen"} == set(UNSEEN)


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


def test_the_command_refuses_an_existing_set_in_one_line(corpus, monkeypatch, capsys):
    folder, _, _ = corpus
    before = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    monkeypatch.setattr(sys, "argv", ["make_demo_corpus", "--out", str(folder)])
    with pytest.raises(SystemExit) as stop:
        run_command(command.main)
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert "--overwrite" in message
    assert before == {name: (folder / name).stat().st_mtime_ns for name in FILES}


def test_of_two_trainings_that_begin_at_once_both_find_the_corpus(tmp_path, monkeypatch):
    def made_by_the_other_one_meanwhile(folder):
        folder.mkdir()
        raise UserError(f"{folder} exists already")

    monkeypatch.setattr(command, "make_demo_corpus", made_by_the_other_one_meanwhile)
    command.ensure_demo_corpus(tmp_path / "demo")


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"n_test": 0}, {"seconds": 0.1}, {"seconds": float("nan")}])
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


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((SENTENCE, "xx"), "xx"), ((SENTENCE, "en-us", "nobody"), "nobody"), (("...",), "...")],
)
def test_what_cannot_be_spoken_is_named(arguments, name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        synthesise(*arguments)


def test_a_missing_espeak_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: "/nowhere/libespeak-ng.so")
    with pytest.raises(UserError, match="pip install espeakng-loader") as caught:
        synthesise(SENTENCE)
    assert "\n" not in str(caught.value)


# -- Noises --


@pytest.fixture(scope="module")
def noises():
    rng = np.random.default_rng(0)
    speech = np.stack([np.resize(synthesise(SENTENCE, "en-us", v), 48000) for v in VARIANTS["train"][:9]])
    return {kind: [make_noise(kind, rng, 48000, speech) for _ in range(4)] for kind in (*SEEN, *UNSEEN)}


def test_unseen_noises_measure_unlike_the_seen_ones(noises):
    def centroid(noise):
        power = np.abs(np.fft.rfft(noise)) ** 2
        return np.sum(power * np.fft.rfftfreq(noise.size, 1 / 16000)) / np.sum(power)

    def periodicity(noise):
        """Of 100 ms frames: the highest autocorrelation at lags of 50 to 400 Hz that follows a negative one."""
        values = []
        for frame in noise[:48000].reshape(-1, 1600):
            correlation = np.fft.irfft(np.abs(np.fft.rfft(frame, 4096)) ** 2)[:320]
            correlation /= correlation[0] * (1 - np.arange(320) / 1600)
            first = max(40, np.argmax(correlation < 0))
            values.append(correlation[first:].max())
        return np.median(values)

    def mean(measure):
        return {kind: np.mean([measure(noise) for noise in clips]) for kind, clips in noises.items()}

    bright, repeating, peaky = mean(centroid), mean(periodicity), mean(kurtosis)
    assert repeating["engine"] > max(repeating[kind] for kind in SEEN) + 0.1
    assert bright["wind"] < 0.6 * min(bright[kind] for kind in SEEN)
    assert peaky["clatter"] > 3 * max(peaky[kind] for kind in SEEN)


def test_clips_of_one_kind_are_not_one_clip(noises):
    for kind, clips in noises.items():
        assert all(np.sqrt(np.mean(clip**2)) == pytest.approx(1) for clip in clips), kind
        likeness = np.abs(np.corrcoef(clips)[np.triu_indices(len(clips), 1)])
        assert np.all(likeness < 0.3), kind


# -- Mixtures --


@given(
    snr=st.floats(-20, 30),
    level=st.floats(-40, 0),
    dtype=st.sampled_from([np.int16, np.float32]),
    span=st.sampled_from([slice(None), slice(1000, 3000)]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_a_mixture_has_its_snr_adds_up_and_never_clips(snr, level, dtype, span, seed):
    rng = np.random.default_rng(seed)
    clean = 10 ** (level / 20) * rng.uniform(-1, 1, 4000)
    noise = 100 * rng.standard_normal(4000)
    mixture = mix(clean, noise, snr, active=span, dtype=dtype)
    assert mixture.noisy.dtype == mixture.clean.dtype == dtype
    full_scale = 32768.0 if dtype == np.int16 else 1.0
    noisy, speech = mixture.noisy / full_scale, mixture.clean / full_scale
    assert max(np.abs(noisy).max(), np.abs(speech).max()) <= 0.99 + 1 / 32768

    added = (mixture.noisy - mixture.clean) / full_scale  # in the type's own arithmetic
    wanted = mixture.scale * mixture.gain * noise
    assert np.array_equal(added, np.float64(noisy) - np.float64(speech))
    assert np.abs(added - wanted).max() <= (2**-16 if dtype == np.int16 else 2**-25) * 1.001
    if added[span].std() > 0.001:  # far above the rounding of int16
        ratio = 10 * np.log10(np.sum(speech[span] ** 2) / np.sum(added[span] ** 2))
        assert ratio == pytest.approx(snr, abs=0.01)


@pytest.mark.parametrize(
    ("clean", "noise", "message"),
    [
        (np.zeros(100), np.ones(100), "clean is silent"),
        (np.ones(100), np.zeros(100), "noise is silent"),
        (np.ones(100), np.full(100, np.nan), "noise holds NaN"),
        (np.ones(100), np.ones(99), "differ in shape"),
        (np.full(100, 1e-7), np.ones(100), "too weak"),
    ],
)
def test_a_mixture_that_can_have_no_snr_is_refused_in_one_line(clean, noise, message):
    with pytest.raises(ValueError, match=message) as caught:
        mix(clean, noise, 0.0)
    assert "\n" not in str(caught.value)


# -- Packed sets --


def write(target, value, **arguments):
    with PackedSetWriter(target, 100, **arguments) as writer:
        array = writer.create("train", 3)
        for index in range(3):
            array[index] = np.full((2, 100), value)
        writer.describe({"value": value})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing_and_the_old_set_as_it_was(interruption, tmp_path):
    def write_half(**arguments):
        with PackedSetWriter(tmp_path / "set", 100, **arguments) as writer:
            writer.create("train", 3)
            writer.describe({})
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert names(tmp_path) == []
    write(tmp_path / "set", 1)
    with pytest.raises(interruption):
        write_half(overwrite=True)
    assert names(tmp_path) == ["set"]
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 1)


def test_a_set_is_replaced_only_when_asked_to(tmp_path):
    write(tmp_path / "set", 1)
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "set", 2)
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 1)
    write(tmp_path / "set", 2, overwrite=True)
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 2)
    assert names(tmp_path) == ["set"]


def test_overwriting_never_deletes_a_folder_that_is_no_packed_set(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="no packed set"):
        write(tmp_path / "home", 1, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_a_set_made_meanwhile_by_another_run_is_kept(tmp_path):
    write(tmp_path / "other", 1)

    def write_while_another_finishes():
        with PackedSetWriter(tmp_path / "set", 100):
            (tmp_path / "other").rename(tmp_path / "set")

    with pytest.raises(UserError, match="exists already"):
        write_while_another_finishes()
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 1)
    assert names(tmp_path) == ["set"]


def test_a_full_disk_is_one_error_that_names_the_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write(tmp_path / "set", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "set" / "train.npy")
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve disk space")
def test_disk_space_is_taken_before_the_work(tmp_path):
    """Hours of mixing are not lost to a disk that turns out too small at the end."""
    with PackedSetWriter(tmp_path / "set", 100_000) as writer:
        writer.create("train", 3)
        file = next(tmp_path.rglob("train.npy")).stat()
    assert file.st_blocks * 512 >= 3 * 2 * 100_000 * 2


def test_noise_a_few_steps_high_keeps_its_snr_when_it_is_rounded():
    rng = np.random.default_rng(0)
    mixture = mix(0.001 * rng.standard_normal(16000), rng.standard_normal(16000), 20.0)  # noise of 3 steps
    assert snr_db(np.stack([mixture.noisy, mixture.clean])) == pytest.approx(20, abs=0.005)
