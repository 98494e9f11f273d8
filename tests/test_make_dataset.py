"""tools.make_dataset: what a user gets from folders of speech and noise, and from pairs, good and bad."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import RATE, noise, speech, write, write_noise, write_speech

import test
import train
from dataloader.mixing import active_span
from tools import make_dataset
from tools.cli import UserError, run_command
from tools.corpora import build
from tools.corpora.audio_files import AudioError, read, read_format
from tools.corpora.layouts import TIMIT_CORE_TEST
from tools.corpora.recordings import TALKER, Problem, Recording, Selection, check_recording
from tools.corpora.rooms import reverberate
from tools.corpora.splits import split_by_talker, split_noise

FILES = ("train.npy", "valid.npy", "test.npy", "dataset.json")
SHORT = ("--seconds", "1", "--workers", "1", "--test_snr_db", "0", "10")


def command(*args: object) -> int:
    """What a user runs as `python -m tools.make_dataset <args>`; gives its exit code."""
    arguments, sys.argv = sys.argv, ["make_dataset", *map(str, args)]
    try:
        run_command(make_dataset.main)
    except SystemExit as stop:
        return stop.code
    finally:
        sys.argv = arguments
    return 0


def describe(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


def items_of(folder: Path):
    """(noisy, clean, description) of every item on disk."""
    description = describe(folder)
    for split in ("train", "valid", "test"):
        array = np.load(folder / f"{split}.npy")
        for number, item in enumerate(description["items"][split]):
            place = number
            if split == "test":
                place = description["noise_types"].index(item["row"]), item["column"], item["utterance"]
            yield *array[place].astype(np.float64), item


def snr_db(noisy, clean, item):
    span = slice(*item["active"])
    return 10 * np.log10(np.sum(clean[span] ** 2) / np.sum((noisy[span] - clean[span]) ** 2))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_speech(folder / "speech")
    write_noise(folder / "noise", ("rain", "street", "wind"))
    write(folder / "noise" / "hum.wav", noise("hum", 20))  # one recording: it is cut in time
    return folder


@pytest.fixture(scope="module")
def made(folders):
    out = folders / "set"
    sources = ("--speech", folders / "speech", "--noise", folders / "noise", "--unseen_types", "wind", "--babble")
    assert command("--out", out, *sources, *SHORT, "--train_snr_range", -5, 15) == 0
    return out


# -- Mixtures of speech and noise --


def test_every_item_has_the_snr_of_its_label_where_there_is_speech(made):
    for noisy, clean, item in items_of(made):
        assert snr_db(noisy, clean, item) == pytest.approx(item["snr_db"], abs=0.01)
        assert max(np.abs(noisy).max(), np.abs(clean).max()) <= 0.99 * 32768 + 1


def test_no_talker_and_no_noise_is_in_two_splits(made):
    items = describe(made)["items"]
    heard = {split: {item["talker"] for item in those} for split, those in items.items()}
    assert not heard["train"] & heard["valid"] | heard["train"] & heard["test"] | heard["valid"] & heard["test"]
    noises = {}
    for split, those in items.items():
        for item in those:
            if item["noise_type"] == "babble":
                stretches = [(voice["file"], 0, 1) for voice in item["noise"]]
            else:
                stretches = [(item["noise"], item["noise_start"], item["noise_start"] + item["noise_samples"])]
            noises.setdefault(split, set()).update(stretches)
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        for file, start, stop in noises[one]:
            assert not any(f == file and a < stop and start < b for f, a, b in noises[other])
    assert {i["noise_type"] for i in items["test"] if i["row"] == "unseen"} == {"wind"}
    assert {i["noise_type"] for i in items["train"]} <= {"rain", "street", "hum", "babble"}


def test_babble_never_has_the_voice_that_it_is_mixed_with(made):
    babble = [item for item in describe(made)["items"]["train"] if item["noise_type"] == "babble"]
    assert babble
    for item in babble:
        assert len(item["noise"]) >= 4
        assert not any(f"/{item['talker']}/" in voice["file"] for voice in item["noise"])


def test_the_description_is_enough_to_make_an_item_again(made):
    array = np.load(made / "train.npy")
    for number, item in enumerate(describe(made)["items"]["train"]):
        if item["noise_type"] != "babble":
            clean = item["scale"] * item["speech_gain"] * read(Path(item["speech"]), item["start"], RATE)
            added = np.resize(read(Path(item["noise"]), item["noise_start"], item["noise_samples"]), RATE)
            noisy = clean + item["scale"] * item["gain"] * added
            np.testing.assert_allclose(array[number] / 32768, [noisy, clean], atol=2**-15)


def test_the_same_command_gives_the_same_bytes_with_any_number_of_workers(made, tmp_path):
    sources = describe(made)["command"].split()[3:]
    assert command("--out", tmp_path / "again", *sources, "--workers", 2) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes(), name
    assert command("--out", tmp_path / "other", *sources, "--workers", 1, "--seed", 1) == 0
    assert (tmp_path / "other" / "train.npy").read_bytes() != (made / "train.npy").read_bytes()


def test_train_and_test_run_on_it(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = ["--kernel_num", "4", "8", "--rnn_units", "4", "--device", "cpu", "--name", "a", "--valid_scores", "0"]
    monkeypatch.setattr(sys, "argv", ["train.py", "--data", str(made), *tiny, "--epochs", "1"])
    run_command(train.main)
    monkeypatch.setattr(sys, "argv", ["test.py", "--name", "a", "--samples", "0"])
    run_command(test.main)
    assert "| unseen | 0 dB | 10 dB | average |" in capsys.readouterr().out


def test_float32_adds_up_and_short_speech_is_padded_with_nothing_but_noise(folders, tmp_path):
    sources = ("--speech", folders / "speech", "--noise", folders / "noise", "--dtype", "float32")
    assert command("--out", tmp_path / "set", *sources, *SHORT, "--seconds", 2, "--n_train", 4) == 0
    assert np.load(tmp_path / "set" / "train.npy").shape == (4, 2, 2 * RATE)
    for noisy, clean, item in items_of(tmp_path / "set"):
        assert item["samples"] == 1.5 * RATE
        assert not clean[item["samples"] :].any()
        assert item["active"][1] <= item["samples"]
        assert np.float32(noisy - clean) + np.float32(clean) == pytest.approx(noisy, abs=0)
        assert snr_db(noisy, clean, item) == pytest.approx(item["snr_db"], abs=0.001)


def test_a_split_larger_than_a_file_may_be_is_written_in_shards(folders, made, tmp_path):
    sources = describe(made)["command"].split()[3:]
    assert command("--out", tmp_path / "set", *sources, "--workers", 1, "--shard_gb", 3e-4) == 0
    shards = sorted((tmp_path / "set" / "train").iterdir())
    assert len(shards) > 2
    np.testing.assert_array_equal(np.concatenate([np.load(s) for s in shards]), np.load(made / "train.npy"))
    assert (tmp_path / "set" / "test.npy").is_file()


def test_rows_of_the_test_can_be_the_types_of_noise(folders, tmp_path):
    sources = ("--speech", folders / "speech", "--noise", folders / "noise", "--unseen_types", "wind")
    assert command("--out", tmp_path / "set", *sources, *SHORT, "--test_rows", "types", "--n_test", 1) == 0
    assert describe(tmp_path / "set")["noise_types"] == ["hum", "rain", "street", "wind"]
    assert np.load(tmp_path / "set" / "test.npy").shape == (4, 2, 1, 2, RATE)


def test_every_clip_of_an_utterance_can_be_an_item(tmp_path):
    write_speech(tmp_path / "speech", talkers=3, utterances=1, seconds=3.6)
    write_noise(tmp_path / "noise")
    sources = ("--speech", tmp_path / "speech", "--noise", tmp_path / "noise", "--cut", "every")
    assert command("--out", tmp_path / "set", *sources, *SHORT) == 0
    assert sorted(item["start"] for item in describe(tmp_path / "set")["items"]["train"]) == [
        0,
        RATE,
        2 * RATE,
        3 * RATE,
    ]


def test_speech_in_a_room_stays_in_time_and_the_snr_is_that_of_what_is_heard(folders, tmp_path):
    response = np.zeros(4000)
    response[[200, 900, 2500]] = 0.5, 0.2, -0.1
    for number in range(4):
        write(tmp_path / "rooms" / f"{number}.wav", response * (1 - 0.1 * number))
    sources = ("--speech", folders / "speech", "--noise", folders / "noise", "--reverb", tmp_path / "rooms")
    assert command("--out", tmp_path / "set", *sources, *SHORT) == 0
    for noisy, clean, item in items_of(tmp_path / "set"):
        assert snr_db(noisy, clean, item) == pytest.approx(item["snr_db"], abs=0.01)
        dry = read(Path(item["speech"]), item["start"], RATE)
        lags = np.correlate(clean[:8000], dry[:8000], "full")[7999 - 30 : 7999 + 30]  # less than a pitch period
        assert np.argmax(lags) == pytest.approx(30, abs=1)
    with pytest.raises(ValueError, match="silent"):
        reverberate(speech("a"), np.zeros(10))


def test_simulated_rooms_are_one_line_without_the_library_that_simulates(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    sources = ("--speech", folders / "speech", "--noise", folders / "noise", "--reverb", "simulated")
    assert command("--out", tmp_path / "set", *sources, *SHORT) == 2
    assert "pip install pyroomacoustics" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# -- Splits --


@given(
    talkers=st.lists(st.integers(0, 12), min_size=3, max_size=40).filter(lambda t: len(set(t)) >= 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_splits_share_no_talker_and_lose_no_recording(talkers, seed):
    recordings = [
        Recording("s", f"{n}", f"t{talker}", RATE, (0,), 1.0, str(n)) for n, talker in enumerate(talkers)
    ]
    splits = split_by_talker(recordings, ("train", "valid", "test"), seed, {})
    assert sorted(r.file for those in splits.values() for r in those) == sorted(r.file for r in recordings)
    heard = [{recording.group for recording in those} for those in splits.values()]
    assert all(heard)
    assert sum(map(len, heard)) == len(set(talkers))


@given(
    lengths=st.lists(st.tuples(st.sampled_from("ab"), st.integers(8000, 400_000)), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_parts_of_noise_never_overlap_and_hold_a_segment_where_they_can(lengths, seed):
    recordings = [Recording("n", f"{n}", kind, size, (0,), 1.0, str(n)) for n, (kind, size) in enumerate(lengths)]
    parts, _ = split_noise(recordings, ("train", "valid", "test"), 48_000, seed)
    heard = np.zeros((len(recordings), 400_000), int)
    for split in parts.values():
        for part in split:
            assert part.samples >= min(48_000, part.recording.samples)
            assert 0 <= part.start < part.stop <= part.recording.samples
            heard[int(part.recording.file), part.start : part.stop] += 1
    assert heard.max() == 1
    assert heard.sum() == sum(size for _, size in lengths)


@given(before=st.integers(0, 20_000), after=st.integers(0, 20_000), length=st.integers(400, 9000))
@settings(max_examples=50, deadline=None)
def test_the_active_span_leaves_out_what_surrounds_speech(before, after, length):
    padded = np.concatenate([np.zeros(before), np.ones(length), np.zeros(after)])
    span = active_span(padded)
    assert before - 320 < span.start <= before
    assert before + length <= span.stop < before + length + 320 or span.stop == padded.size


def test_a_talker_in_two_folders_is_refused(folders, tmp_path, capsys):
    write_speech(tmp_path / "more", talkers=2)
    sources = ("--speech", folders / "speech", "--test_speech", tmp_path / "more", "--noise", folders / "noise")
    assert command("--out", tmp_path / "set", *sources, *SHORT) == 2
    assert ": found in train and in test" in capsys.readouterr().err


def test_the_same_audio_under_another_name_is_used_once(folders, tmp_path, capsys):
    copy = folders / "speech" / "t00" / "0.wav"
    write(tmp_path / "test" / "x1" / "copy.wav", soundfile.read(copy)[0])
    sources = ("--speech", folders / "speech", "--test_speech", tmp_path / "test", "--noise", folders / "noise")
    assert command("--out", tmp_path / "set", *sources, *SHORT) == 0
    assert f"left out: {copy}: the same audio as {tmp_path}/test/x1/copy.wav" in capsys.readouterr().err
    assert str(copy) not in {item["speech"] for item in describe(tmp_path / "set")["items"]["train"]}


# -- Audio files --


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_any_format_and_rate_gives_the_same_sound(tmp_path, suffix, rate):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    path = write(tmp_path / f"tone.{suffix}", np.stack([tone, tone], axis=1), rate)
    heard = read(path, 4000, 8000)
    assert read_format(path).samples == pytest.approx(16000, abs=2500 if suffix == "mp3" else 1)
    wanted = 0.3 * np.sin(2 * np.pi * 440 * (np.arange(8000) + 4000) / RATE)
    assert heard.size == 8000
    middle = slice(500, -500)
    tolerance = {"mp3": 0.05, "ogg": 0.02}.get(suffix, 1e-3)
    np.testing.assert_allclose(heard[middle], wanted[middle], atol=tolerance)


@pytest.mark.parametrize(("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_24", 2**-15), ("FLOAT", 1e-6)])
def test_any_bit_depth_is_full_scale(tmp_path, subtype, step):
    signal = speech("a", 0.6)
    np.testing.assert_allclose(read(write(tmp_path / "a.wav", signal, subtype=subtype)), signal, atol=step)


def test_channels_are_averaged(tmp_path):
    left, right = speech("a", 0.6), speech("b", 0.6)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read(path), (left + right) / 2, atol=1e-6)


@given(
    rate=st.sampled_from([8000, 19980, 44100, 96000, 192000]),
    start=st.integers(0, 9000),
    size=st.integers(1, 9000),
)
@settings(max_examples=40, deadline=None)
def test_a_part_has_the_length_asked_for_or_what_there_is(tmp_path_factory, rate, start, size):
    path = tmp_path_factory.getbasetemp() / f"{rate}.wav"
    if not path.exists():
        write(path, noise("n", 1.0, rate), rate)
    assert read(path, start, size).size == max(0, min(size, read_format(path).samples - start))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD_AUDIO = {
    "an empty file": (lambda p: p.write_bytes(b""), "an empty file"),
    "text": (lambda p: p.write_text("not audio"), "not readable as audio"),
    "corrupt header": (
        lambda p: p.write_bytes(b"RIFF\xff\xff\xff\xffWAVEfmt \x00" + bytes(50)),
        "not readable as audio",
    ),
    "zero length": (lambda p: write(p, np.zeros(0)), "holds no samples"),
    "too short": (lambda p: write(p, speech("a", 0.1)), "too short: 0.10 s, expected 0.5 s or more"),
    "silence": (lambda p: write(p, np.zeros(RATE)), "silent in the clip taken"),
    "silence at first": (lambda p: write(p, np.append(np.zeros(RATE), speech("a"))), "silent in the clip taken"),
    "next to silence": (lambda p: write(p, 1e-5 * speech("a"), subtype="FLOAT"), "silent in the clip taken"),
    "channels that cancel": (lambda p: write(p, np.outer(speech("a"), [1, -1])), "silent in the clip taken"),
    "NaN": (lambda p: write(p, np.append(speech("a"), np.nan)[-RATE:], subtype="FLOAT"), "holds NaN or infinity"),
    "infinity": (lambda p: write(p, np.append(np.inf, speech("a")), subtype="FLOAT"), "holds NaN or infinity"),
    "a name that is no text": (None, "its name is not text"),
}


@pytest.mark.parametrize("case", BAD_AUDIO)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, case):
    spoil, reason = BAD_AUDIO[case]
    name = os.fsdecode(b"\xff.wav") if spoil is None else "bad.wav"
    if spoil:
        spoil(tmp_path / name)
    problem = check_recording(None, tmp_path, name, Selection(TALKER, RATE))
    assert isinstance(problem, Problem)
    assert reason in str(problem)
    assert "\n" not in str(problem)


def test_a_flac_that_is_cut_short_is_named(tmp_path):
    cut_short(write(tmp_path / "a.flac", noise("a")))
    with pytest.raises(AudioError, match=r"cut short|not readable"):
        read(tmp_path / "a.flac", 2 * RATE, RATE)


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = write(tmp_path / "a.wav", speech("a"))
    path.chmod(0)
    with pytest.raises(AudioError, match="Permission denied"):
        read_format(path)


def test_good_files_are_used_and_bad_ones_listed_or_refused(folders, tmp_path, capsys):
    write_speech(tmp_path / "speech", talkers=4)
    (tmp_path / "speech" / "t00" / "text.wav").write_text("not audio")
    (tmp_path / "speech" / "t01" / "folder.wav").mkdir()
    write(tmp_path / "speech" / "t02" / "._hidden.wav", speech("hidden"))
    sources = ("--speech", tmp_path / "speech", "--noise", folders / "noise")
    assert command("--out", tmp_path / "strict", *sources, *SHORT, "--strict") == 2
    errors = capsys.readouterr().err
    assert "2 files cannot be used and --strict is given" in errors
    assert not (tmp_path / "strict").exists()
    assert command("--out", tmp_path / "set", *sources, *SHORT) == 0
    left_out = describe(tmp_path / "set")["left_out"]
    assert [line.split(": ", 1)[1].split(" (")[0] for line in sorted(left_out)] == [
        "not readable as audio",
        "a folder, expected an audio file",
    ]
    assert all(f"left out: {line}" in errors for line in left_out)


# -- What cannot be made into a set --


def one_talker(folder):
    write_speech(folder / "few", talkers=1)


BAD_COMMANDS = {
    "no source": ([], "found no source"),
    "no noise": (["--speech", "speech"], "--speech without --noise"),
    "two sources": (["--speech", "speech", "--pairs", "a", "b"], "found --speech and --pairs"),
    "no such folder": (["--speech", "none", "--noise", "noise"], "none: no such folder"),
    "a file as folder": (["--speech", "speech/t00/0.wav", "--noise", "noise"], "a file, expected a folder"),
    "no audio": (["--speech", "empty", "--noise", "noise"], "empty: found no audio"),
    "one talker": (["--speech", "few", "--noise", "noise"], "few: found 1 talker, expected 3 or more"),
    "nothing usable": (["--speech", "broken", "--noise", "noise"], "found nothing to use for training; 1 files"),
    "silent noise": (["--speech", "speech", "--noise", "silent"], "silent: found nothing to use for training"),
    "short noise": (["--speech", "speech", "--noise", "short"], "found no noise for the test"),
    "sparse noise": (["--speech", "speech", "--noise", "sparse"], "segments in a row were silent"),
    "unknown type": (["--speech", "speech", "--noise", "noise", "--unseen_types", "x"], "unseen_types: found 'x'"),
    "seen as unseen": (
        ["--speech", "speech", "--noise", "noise", "--unseen_noise", "more"],
        "type rain is in noise",
    ),
    "other test noise": (["--speech", "speech", "--noise", "more", "--test_noise", "noise"], "is not in more"),
    "unknown talker": (["--speech", "speech", "--noise", "noise", "--valid_talkers", "x"], "valid talker 'x'"),
    "bad pattern": (["--speech", "speech", "--noise", "noise", "--talker", "("], "talker: found '('"),
    "no group": (["--speech", "speech", "--noise", "noise", "--talker", "x"], "expected a group in parentheses"),
    "no match": (["--speech", "speech", "--noise", "noise", "--talker", "(z9)"], "no talker or type in its name"),
    "length": (["--speech", "speech", "--noise", "noise", "--seconds", "0"], "seconds: found 0.0"),
    "snr": (["--speech", "speech", "--noise", "noise", "--test_snr_db", "nan"], "test_snr_db: found (nan,)"),
    "range": (["--speech", "speech", "--noise", "noise", "--train_snr_range", "5", "0"], "the lower value first"),
    "level": (["--speech", "speech", "--noise", "noise", "--level_db", "-9", "9"], "levels up to 0 dBFS"),
    "unknown argument": (["--speach", "speech"], "did you mean --speech"),
    "bad value": (["--speech", "speech", "--noise", "noise", "--dtype", "int8"], "int8"),
    "babble of few": (["--speech", "six", "--noise", "noise", "--babble"], "babble: found"),
    "rooms": (["--speech", "speech", "--noise", "noise", "--reverb", "empty"], "empty: found no audio"),
    "layout": (["--layout", "librispeech"], "root: found none"),
    "root": (["--layout", "timit-noisex92", "--root", "noise"], "noise/TRAIN: no such folder"),
    "missing pairs": (["--pairs", "speech", "none"], "none: no such folder"),
    "pairs of nothing": (["--pairs", "speech", "noise"], "found nothing to use for training; 33"),
    "existing folder": (["--speech", "speech", "--noise", "noise", "--out", "noise"], "noise exists already"),
}


@pytest.fixture(scope="module")
def bad(folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    for name in ("speech", "noise"):
        (folder / name).symlink_to(folders / name)
    write_speech(folder / "few", talkers=1)
    write_speech(folder / "six", talkers=6)
    write_noise(folder / "more", ("rain",))
    (folder / "empty").mkdir()
    write(folder / "broken" / "t00" / "a.wav", np.zeros(RATE))
    write(folder / "silent" / "a.wav", np.zeros(RATE))
    write(folder / "short" / "a.wav", noise("a", 0.7))
    write(folder / "sparse" / "a" / "a.wav", np.append(noise("a", 0.01), np.zeros(60 * RATE)))
    return folder


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_what_cannot_become_a_set_is_one_line_and_leaves_nothing(bad, monkeypatch, capsys, case):
    args, message = BAD_COMMANDS[case]
    monkeypatch.chdir(bad)
    before = sorted(bad.iterdir())
    assert command("--out", "set", *SHORT, *args) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert all(line.startswith(("error: ", "left out: ", "note: ")) for line in lines)
    assert sorted(bad.iterdir()) == before


def test_a_file_that_is_gone_meanwhile_ends_the_command_in_one_line(folders, tmp_path, capsys, monkeypatch):
    write_speech(tmp_path / "speech", talkers=4)
    sources = ("--speech", tmp_path / "speech", "--noise", folders / "noise")

    def vanish(*_, **__):
        for file in (tmp_path / "speech").rglob("*.wav"):
            file.unlink()

    monkeypatch.setattr(build, "report", vanish)  # called when all files have been read and none is packed
    assert command("--out", tmp_path / "set", *sources, *SHORT) == 2
    assert "cannot be opened (No such file or directory)" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


# -- Pairs --


def write_pairs(folder: Path, talkers: int = 6) -> tuple[Path, Path]:
    for talker in range(talkers):
        for utterance in range(2):
            name = f"p{talker}_{utterance}.wav"
            clean = speech(name)
            write(folder / "clean" / name, clean)
            write(folder / "noisy" / name, clean + noise(name, 1.5))
    return folder / "noisy", folder / "clean"


def test_pairs_are_packed_as_they_are(tmp_path):
    pairs = write_pairs(tmp_path)
    assert command("--out", tmp_path / "set", "--pairs", *pairs, *SHORT) == 0
    assert describe(tmp_path / "set")["noise_types"] == ["pairs"]
    for noisy, clean, item in items_of(tmp_path / "set"):
        for stored, file in ((noisy, item["noisy"]), (clean, item["speech"])):
            original = soundfile.read(file, dtype="int16")[0][:RATE]
            np.testing.assert_array_equal(stored, original)
        assert snr_db(noisy, clean, item) == pytest.approx(item["snr_db"], abs=0.01)


def test_of_pairs_what_is_good_is_packed_and_what_is_not_is_listed(tmp_path, capsys):
    noisy, clean = write_pairs(tmp_path)
    (noisy / "p0_0.wav").rename(noisy / "p0_x.wav")
    write(noisy / "p1_0.wav", noise("a", 1.4))
    write(noisy / "p2_0.wav", noise("a", 1.5, 8000), 8000)
    (noisy / "p3_0.wav").write_text("not audio")
    write(clean / "p4_0.wav", np.zeros(24000))
    expected = [
        f"{clean}/p0_0.wav: no file of that name in {noisy}",
        f"{noisy}/p0_x.wav: no file of that name in {clean}",
        f"{noisy}/p1_0.wav: 22400 samples, but {clean}/p1_0.wav 24000",
        f"{noisy}/p2_0.wav: 8000 Hz, but {clean}/p2_0.wav 16000 Hz",
        f"{noisy}/p3_0.wav: not readable as audio",
        f"{clean}/p4_0.wav: silent in the clip taken",
    ]
    assert command("--out", tmp_path / "strict", "--pairs", noisy, clean, *SHORT, "--strict") == 2
    assert not (tmp_path / "strict").exists()
    assert command("--out", tmp_path / "set", "--pairs", noisy, clean, *SHORT) == 0
    errors = capsys.readouterr().err
    left_out = describe(tmp_path / "set")["left_out"]
    assert len(left_out) == len(expected)
    for line in expected:
        assert any(found.startswith(line) for found in left_out)
        assert line in errors
    items = describe(tmp_path / "set")["items"]
    assert sum(map(len, items.values())) == 7

    for path in noisy.iterdir():
        path.write_text("not audio")
    assert command("--out", tmp_path / "none", "--pairs", noisy, clean, *SHORT) == 2
    assert "found nothing to use for training" in capsys.readouterr().err


# -- Known corpora --


def voicebank(root):
    for talkers, name in ((("p226", "p287", "p228", "p229"), "trainset_28spk"), (("p232", "p257"), "testset")):
        for talker in talkers:
            clean = speech(talker, 1.2, 48000)
            write(root / f"clean_{name}_wav" / f"{talker}_001.wav", clean, 48000)
            write(root / f"noisy_{name}_wav" / f"{talker}_001.wav", clean + noise(talker, 1.2, 48000), 48000)
    return {"train": {"p228", "p229"}, "valid": {"p226", "p287"}, "test": {"p232", "p257"}}


def timit(root):
    for talker, split in (("MKLS0", "TRAIN"), ("FCJF0", "TRAIN"), ("MDAB0", "TEST"), ("FAKS0", "TEST")):
        for sentence in ("SA1", "SX37", "SI943"):
            file = root / "TIMIT" / split / "DR1" / talker / f"{sentence}.WAV"
            write(file, speech(f"{talker}{sentence}"), format="NIST", subtype="PCM_16")
    for kind in ("babble", "white", "factory2", "buccaneer2", "destroyerops", "machinegun"):
        write(root / "NOISEX-92" / f"{kind}.wav", noise(kind, 10, 19980), 19980)
    return {"train": {"MKLS0", "FCJF0"}, "valid": {"FAKS0"}, "test": {"MDAB0"}}


def librispeech(root):
    for split, talker in (("train-clean-100", "103"), ("dev-clean", "84"), ("test-clean", "61")):
        write(root / "LibriSpeech" / split / talker / "1240" / f"{talker}-1240-0000.flac", speech(talker))
    write_noise(root / "noise")
    return {"train": {"103"}, "valid": {"84"}, "test": {"61"}}


def dns(root):
    for reader in ("06709", "00123", "01000"):
        write(root / "datasets" / "clean" / f"book_00000_chp_0009_reader_{reader}_0.wav", speech(reader, 2.2))
    for number in range(3):
        write(root / "datasets" / "noise" / f"{number}_Freesound.wav", noise(str(number)))
    test_set = root / "datasets" / "test_set" / "synthetic" / "no_reverb"
    write(test_set / "clean" / "clean_fileid_7.wav", speech("t"))
    write(test_set / "noisy" / "clnsp1_door_snr5_fileid_7.wav", speech("t") + noise("t", 1.5))
    return {"test": {"clean"}}


@pytest.mark.parametrize(
    ("layout", "make"),
    [
        ("voicebank-demand", voicebank),
        ("timit-noisex92", timit),
        ("librispeech", librispeech),
        ("dns-challenge", dns),
    ],
)
def test_a_known_corpus_is_one_command_and_has_its_own_splits(tmp_path, layout, make):
    talkers = make(tmp_path)
    more = ["--noise", tmp_path / "noise"] if layout == "librispeech" else []
    assert command("--out", tmp_path / "set", "--layout", layout, "--root", tmp_path, *SHORT, *more) == 0
    items = describe(tmp_path / "set")["items"]
    for split, wanted in talkers.items():
        assert {item["talker"] for item in items[split]} == wanted
    assert not any("SA1" in item["speech"] for those in items.values() for item in those)
    if layout == "dns-challenge":
        assert len(items["train"]) + len(items["valid"]) >= 4


def test_the_core_test_set_of_timit_has_its_192_sentences():
    assert len(set(TIMIT_CORE_TEST)) * 8 == 192


def test_an_unusable_split_names_the_folder(bad, tmp_path):
    with pytest.raises(UserError, match="found 2 talkers, expected 3"):
        split_by_talker(
            [Recording("few", "a", "t0", RATE, (0,), 1.0, "a"), Recording("few", "b", "t1", RATE, (0,), 1.0, "b")],
            ("train", "valid", "test"),
            0,
            {},
        )
