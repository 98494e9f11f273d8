"""tools.make_dataset: what a user gets from folders of speech and noise, and from pairs, good and bad."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import run
from recordings import RATE, noise, speech, write, write_noise, write_speech
from sets import describe, items_of, snr_db

import test
import train
from tools import inspect_dataset, make_dataset
from tools.common.audio import read
from tools.corpora.layouts import TIMIT_CORE_TEST, with_layout
from tools.corpora.settings import DatasetSettings

FILES = ("train.npy", "valid.npy", "test.npy", "dataset.json", "items.jsonl")
SHORT = ("--seconds", "1", "--workers", "1", "--test_snr_db", "0", "10")


def command(*args: object) -> int:
    return run(make_dataset, *args)


def mix(out: Path, folders: Path, *more: object) -> int:
    return command("--out", out, "--speech", folders / "speech", "--noise", folders / "noise", *SHORT, *more)


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
    assert mix(out, folders, "--unseen_types", "wind", "--babble", "--train_snr_range", -5, 15) == 0
    return out


# -- Mixtures of speech and noise --


def test_every_item_has_the_snr_of_its_label_where_there_is_speech(made):
    for noisy, clean, item in items_of(made):
        assert snr_db(noisy, clean, item) == pytest.approx(item["snr_db"], abs=0.01)
        assert max(np.abs(noisy).max(), np.abs(clean).max()) <= 0.99 * 32768 + 1


def test_no_talker_and_no_noise_is_in_two_splits(made):
    assert run(inspect_dataset, made, "--items", 0, "--workers", 1) == 0
    items = describe(made)["items"]
    assert {i["noise_type"] for i in items["test"] if i["row"] == "unseen types"} == {"wind"}
    assert {i["noise_type"] for i in items["train"]} <= {"rain", "street", "hum", "babble"}


def test_babble_never_has_the_voice_that_it_is_mixed_with(made):
    babble = [item for item in describe(made)["items"]["train"] if item["noise_type"] == "babble"]
    assert babble
    for item in babble:
        assert len(item["talkers"]) >= 4
        assert item["talker"] not in item["talkers"]


def test_the_description_is_enough_to_make_an_item_again(made):
    array = np.load(made / "train.npy")
    for number, item in enumerate(describe(made)["items"]["train"]):
        if item["noise_type"] != "babble":
            clean = item["scale"] * item["speech_gain"] * read(Path(item["speech"]), item["start"], RATE)
            added = read(Path(item["noise"]), item["noise_start"], RATE)
            noisy = clean + item["scale"] * item["gain"] * added
            np.testing.assert_allclose(array[number] / 32768, [noisy, clean], atol=2**-15)


def test_the_same_command_gives_the_same_bytes_with_any_number_of_workers(made, tmp_path):
    sources = describe(made)["command"].split()[3:]
    assert command("--out", tmp_path / "again", *sources, "--workers", 2) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes(), name
    assert command("--out", tmp_path / "other", *sources, "--workers", 1, "--seed", 1) == 0
    assert (tmp_path / "other" / "train.npy").read_bytes() != (made / "train.npy").read_bytes()


@pytest.mark.slow
def test_train_and_test_run_on_it(made, here, capsys):
    tiny = ["--kernel_num", "4", "8", "--rnn_units", "4", "--device", "cpu", "--name", "a", "--valid_scores", "0"]
    assert run(train, "--data", made, *tiny, "--epochs", 1) == 0
    assert run(test, "--name", "a", "--samples", 0) == 0
    assert "unseen types 0 dB 10 dB average" in " ".join(capsys.readouterr().out.split())


def test_float32_adds_up_and_short_speech_is_padded_with_nothing_but_noise(folders, tmp_path):
    assert mix(tmp_path / "set", folders, "--dtype", "float32", "--seconds", 2, "--n_train", 4) == 0
    assert np.load(tmp_path / "set" / "train.npy").shape == (4, 2, 2 * RATE)
    for noisy, clean, item in items_of(tmp_path / "set"):
        assert item["samples"] == 1.5 * RATE
        assert not clean[item["samples"] :].any()
        assert item["active"][1] <= item["samples"]
        assert np.float32(noisy - clean) + np.float32(clean) == pytest.approx(noisy, abs=0)
        assert snr_db(noisy, clean, item) == pytest.approx(item["snr_db"], abs=0.001)


def test_every_clip_of_an_utterance_can_be_an_item(tmp_path):
    write_speech(tmp_path / "speech", talkers=3, utterances=1, seconds=3.6)
    write_noise(tmp_path / "noise")
    assert mix(tmp_path / "set", tmp_path, "--cut", "every") == 0
    starts = [item["start"] for item in describe(tmp_path / "set")["items"]["train"]]
    assert sorted(starts) == [0, RATE, 2 * RATE, 3 * RATE]


def test_speech_in_a_room_stays_in_time_and_the_snr_is_that_of_what_is_heard(folders, tmp_path):
    response = np.zeros(4000)
    response[[200, 900, 2500]] = 0.5, 0.2, -0.1
    for number in range(4):
        write(tmp_path / "rooms" / f"{number}.wav", response * (1 - 0.1 * number))
    reverb = ("--reverb", tmp_path / "rooms")
    assert mix(tmp_path / "set", folders, *reverb) == 0
    for noisy, clean, item in items_of(tmp_path / "set"):
        assert snr_db(noisy, clean, item) == pytest.approx(item["snr_db"], abs=0.01)
        dry = read(Path(item["speech"]), item["start"], RATE)
        lags = np.correlate(clean[:8000], dry[:8000], "full")[7999 - 30 : 7999 + 30]  # less than a pitch period
        assert np.argmax(lags) == pytest.approx(30, abs=1)
    assert mix(tmp_path / "early", folders, *reverb, "--reverb_target", "early") == 0
    late, early = (np.load(tmp_path / name / "valid.npy").astype(int) for name in ("set", "early"))
    assert np.array_equal(late[:, 0], early[:, 0])  # the same noisy speech, with less to be kept of it
    assert (np.square(early[:, 1]).sum(1) < np.square(late[:, 1]).sum(1) * 1.2).all()
    assert not np.array_equal(late[:, 1], early[:, 1])
    assert run(inspect_dataset, tmp_path / "early") == 0
    assert mix(tmp_path / "simulated", folders, "--reverb", "simulated", "--reverb_target", "early") == 0
    assert all("rt60_s" in item for item in describe(tmp_path / "simulated")["items"]["train"])


def test_the_same_audio_under_another_name_is_used_once(folders, tmp_path, capsys):
    copy = folders / "speech" / "t00" / "0.wav"
    write(tmp_path / "test" / "x1" / "copy.wav", soundfile.read(copy)[0])
    assert mix(tmp_path / "set", folders, "--test_speech", tmp_path / "test") == 0
    assert f"left out: {copy}: the same audio as {tmp_path}/test/x1/copy.wav" in capsys.readouterr().err
    assert str(copy) not in {item["speech"] for item in describe(tmp_path / "set")["items"]["train"]}


def test_good_files_are_used_and_bad_ones_listed_or_refused(tmp_path, capsys):
    write_speech(tmp_path / "speech", talkers=4)
    write_noise(tmp_path / "noise")
    (tmp_path / "speech" / "t00" / "text.wav").write_text("not audio")
    write(tmp_path / "speech" / "t02" / "._hidden.wav", speech("hidden"))
    assert mix(tmp_path / "strict", tmp_path, "--strict") == 2
    errors = capsys.readouterr().err
    assert "1 files cannot be used; fix or remove them, or leave out --strict" in errors
    assert not (tmp_path / "strict").exists()
    assert mix(tmp_path / "set", tmp_path) == 0
    left_out = describe(tmp_path / "set")["left_out"]
    assert [line.split(": ", 1)[1].split(" (")[0] for line in left_out] == ["not readable as audio"]
    assert all(f"left out: {line}" in errors for line in left_out)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names are text")
def test_a_recording_whose_name_is_no_text_is_used(tmp_path):
    write_speech(tmp_path / "speech", talkers=4)
    write_noise(tmp_path / "noise")
    file = tmp_path / "speech" / "t00" / "0.wav"
    file.rename(file.with_name(os.fsdecode(b"caf\xe9.wav")))
    assert mix(tmp_path / "set", tmp_path, "--overwrite") == 0
    assert run(inspect_dataset, tmp_path / "set", "--items", 0) == 0
    assert sum("caf?" in item["speech"] for _, _, item in items_of(tmp_path / "set")) >= 1


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
            assert np.ptp(stored - original) <= 1  # an offset is removed
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
        f"{noisy}/p1_0.wav: 22400 samples at 16000 Hz, but {clean}/p1_0.wav has 24000 at 16000 Hz",
        f"{noisy}/p2_0.wav: 12000 samples at 8000 Hz, but {clean}/p2_0.wav has 24000 at 16000 Hz",
        f"{noisy}/p3_0.wav: not readable as audio",
        f"{clean}/p4_0.wav: silent",
    ]
    assert command("--out", tmp_path / "set", "--pairs", noisy, clean, *SHORT) == 0
    errors = capsys.readouterr().err
    left_out = describe(tmp_path / "set")["left_out"]
    assert len(left_out) == len(expected)
    for line in expected:
        assert any(found.startswith(line) for found in left_out)
        assert line in errors
    items = describe(tmp_path / "set")["items"]
    assert sum(map(len, items.values())) == 7


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


def test_a_layout_does_not_change_a_setting_that_is_given_with_its_default(tmp_path):
    librispeech(tmp_path)
    asked = DatasetSettings(tmp_path / "set", layout="librispeech", root=tmp_path, noise=(tmp_path,), n_valid=7)
    assert (with_layout(asked).n_test, with_layout(asked).n_valid) == (100, 7)
    assert with_layout(asked, {"n_test"}).n_test == 0
    assert "--n_test 0" in asked.command({"n_test"})


def test_the_core_test_set_of_timit_has_its_192_sentences():
    assert len(set(TIMIT_CORE_TEST.split())) * 8 == 192


def test_validation_on_noise_that_training_never_hears(folders, tmp_path):
    assert mix(tmp_path / "set", folders, "--valid_types", "wind", "--n_train", 20) == 0
    items = describe(tmp_path / "set")["items"]
    types = {split: {item["noise_type"] for item in those} for split, those in items.items()}
    assert types["valid"] == {"wind"}
    assert "wind" not in types["train"] | types["test"]


def test_sources_may_be_several_folders_and_short_noises_are_joined(tmp_path, capsys):
    for folder in "abcd":
        write_speech(tmp_path / folder, talkers=2)
    write_noise(tmp_path / "noise", ("rain", "street"))
    write_noise(tmp_path / "valid_noise", ("rain",))
    write_noise(tmp_path / "unseen", ("rain", "wind"))
    for folder in ("clicks", "test_clicks"):
        for number in range(4):
            write(tmp_path / folder / "click" / f"{number}.wav", noise(f"{folder}{number}", 0.3))
    folders = {
        "speech": "ab",
        "noise": ("noise", "clicks"),
        "valid_speech": "c",
        "valid_noise": ("valid_noise",),
        "test_speech": "d",
        "test_noise": ("test_clicks",),
        "unseen_noise": ("unseen",),
    }
    sources = [word for name, those in folders.items() for word in (f"--{name}", *(tmp_path / f for f in those))]
    assert command("--out", tmp_path / "set", *sources, "--talker", "", *SHORT, "--n_train", 60) == 0
    assert "unseen sources: 1 type (rain) is in training too" in capsys.readouterr().err
    items = describe(tmp_path / "set")["items"]
    assert {item["talker"] for item in items["train"]} == {"a", "b"}
    assert {item["noise_type"] for item in items["train"]} == {"rain", "street", "click"}
    assert {Path(item["noise"]).parts[-3] for item in items["valid"]} == {"valid_noise"}
    clicks = [item for item in items["train"] if item["noise_type"] == "click"]
    assert min(len(item["noise"]) for item in clicks) > 1  # joined, as they have 0.3 s each
    assert run(inspect_dataset, tmp_path / "set", "--items", 0) == 0


def test_a_part_of_the_test_speech_is_spread_evenly_over_talkers(folders, tmp_path):
    some = ("--test_talkers", "t00", "t01", "t02", "--n_test", 3, "--cut", "every")
    assert mix(tmp_path / "set", folders, *some) == 0
    items = describe(tmp_path / "set")["items"]["test"]
    assert {item["talker"] for item in items} == {"t00", "t01", "t02"}
