"""tools.make_dataset: what cannot become a set is one line that says why, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest
from programs import run
from recordings import RATE, noise, write, write_noise, write_speech

from tools import make_dataset
from tools.corpora import build

SMALL = ("--seconds", "1", "--workers", "1", "--test_snr_db", "0", "10")

BAD_COMMANDS = {
    "no source": ([], "found no --speech, --pairs or --layout"),
    "no noise": (["--speech", "speech"], "--speech without --noise"),
    "two sources": (["--speech", "speech", "--pairs", "a", "b"], "found --speech and --pairs"),
    "no such folder": (["--speech", "none", "--noise", "noise"], "none: no such folder"),
    "a file as folder": (
        ["--speech", "speech/t00/0.wav", "--noise", "noise"],
        "0.wav: no such folder, expected a folder",
    ),
    "no audio": (["--speech", "empty", "--noise", "noise"], "empty: found no audio"),
    "one talker": (["--speech", "few", "--noise", "noise"], "found 1 talkers, as in few"),
    "nothing usable": (["--speech", "broken", "--noise", "noise"], "found nothing to use for training; 1 files"),
    "silent noise": (["--speech", "speech", "--noise", "silent"], "found nothing to use for training; 1 files"),
    "short noise": (["--speech", "speech", "--noise", "short"], "found no noise for valid"),
    "sparse noise": (["--speech", "speech", "--noise", "sparse"], "segments in a row are silent"),
    "unknown type": (["--speech", "speech", "--noise", "noise", "--unseen_types", "x"], "unseen_types: found 'x'"),
    "other test noise": (
        ["--speech", "speech", "--noise", "more", "--test_noise", "noise"],
        "test_noise: found type",
    ),
    "unknown talker": (["--speech", "speech", "--noise", "noise", "--valid_talkers", "x"], "valid talker 'x'"),
    "bad pattern": (
        ["--speech", "speech", "--noise", "noise", "--talker", "("],
        "talker: found a wrong regular expression",
    ),
    "no match": (["--speech", "speech", "--noise", "noise", "--talker", "(z9)"], "no talker or type in its name"),
    "length": (["--speech", "speech", "--noise", "noise", "--seconds", "0"], "seconds: found 0.0"),
    "snr": (
        ["--speech", "speech", "--noise", "noise", "--test_snr_db", "nan"],
        "test_snr_db: found (nan,), expected float >= -100",
    ),
    "level": (
        ["--speech", "speech", "--noise", "noise", "--level_db", "-9", "9"],
        "level_db: found (-9.0, 9.0), expected float <= 0",
    ),
    "babble of few": (["--speech", "six", "--noise", "noise", "--babble"], "babble: found"),
    "rooms": (["--speech", "speech", "--noise", "noise", "--reverb", "empty"], "empty: found no audio"),
    "layout": (["--layout", "librispeech"], "root: found none"),
    "loud for int16": (
        ["--speech", "speech", "--noise", "noise", "--test_snr_db", "50"],
        "found 50 dB SNR, beyond 40 take --dtype float32",
    ),
    "root": (["--layout", "timit-noisex92", "--root", "noise"], "noise/TRAIN: no such folder"),
    "missing pairs": (["--pairs", "speech", "none"], "none: no such folder"),
    "pairs of nothing": (["--pairs", "speech", "noise"], "found nothing to use for training; 33"),
    "existing folder": (["--speech", "speech", "--noise", "noise", "--out", "noise"], "noise exists already"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_speech(folder / "speech")
    write_noise(folder / "noise", ("rain", "street", "wind"))
    write(folder / "noise" / "hum.wav", noise("hum", 20))
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
    assert run(make_dataset, "--out", "set", *SMALL, *args) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert all(line.startswith(("error: ", "left out: ", "note: ")) for line in lines)
    assert sorted(bad.iterdir()) == before


@pytest.mark.parametrize("gone", ["speech", "noise"])
def test_a_file_that_is_gone_meanwhile_ends_the_command_in_one_line(tmp_path, capsys, monkeypatch, gone):
    write_speech(tmp_path / "speech", talkers=4)
    write_noise(tmp_path / "noise", ("rain", "street"))
    sources = ("--speech", tmp_path / "speech", "--noise", tmp_path / "noise")

    def vanish(*_, **__):
        for file in (tmp_path / gone).rglob("*.wav"):
            file.unlink()

    monkeypatch.setattr(build, "report", vanish)  # called when all files have been read and none is packed
    assert run(make_dataset, "--out", tmp_path / "set", *sources, *SMALL) == 2
    assert "No such file or directory" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
