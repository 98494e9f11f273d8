"""tools.make_dataset: what cannot become a set is one line that says why, and leaves nothing behind."""

import numpy as np
import pytest
from programs import run
from recordings import RATE, noise, write, write_noise, write_speech

from tools import make_dataset

SMALL = ("--seconds", "1", "--workers", "1", "--test_snr_db", "0", "10")

MIXED = "--speech speech --noise noise"
BAD_COMMANDS = {
    "no source": ("", "found no --speech, --pairs or --layout"),
    "no noise": ("--speech speech", "--speech without --noise"),
    "speech among the noise": (
        "--speech noise/rain --talker (.) --noise noise",
        "in a folder of speech and in one of noise",
    ),
    "no such folder": ("--speech none --noise noise", "none: no such folder"),
    "talker in two folders": (f"{MIXED} --test_speech few", "and in test; choose other folders"),
    "one talker": ("--speech few --noise noise", "found 1 talkers, as in few"),
    "nothing usable": ("--speech broken --noise noise", "found nothing to use for training; 1 files"),
    "empty folder": ("--speech broken empty --noise noise", "empty: found no audio, expected"),
    "short noise": ("--speech speech --noise short", "found no noise for valid"),
    "sparse noise": (
        "--speech speech --noise sparse",
        "found no noise for valid: a type needs 3 recordings, or one of 3 s",
    ),
    "unknown type": (f"{MIXED} --unseen_types x", "unseen_types: found 'x'"),
    "other test noise": ("--speech speech --noise more --test_noise noise", "test_noise: found type"),
    "unknown talker": (f"{MIXED} --valid_talkers x", "valid talker 'x'"),
    "bad pattern": (f"{MIXED} --talker (", "talker: found a wrong regular expression"),
    "no number": (f"{MIXED} --test_snr_db nan", "test_snr_db: found (nan,), expected float >= -100"),
    "SNR of int16": (f"{MIXED} --test_snr_db 50", "found 50 dB SNR, beyond 40 take --dtype float32"),
    "root": ("--layout timit-noisex92 --root noise", "noise/TRAIN: no such folder"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_speech(folder / "speech")
    write_noise(folder / "noise", ("rain", "street", "wind"))
    write(folder / "noise" / "hum.wav", noise("hum", 20))
    write_speech(folder / "few", talkers=1)
    write_noise(folder / "more", ("rain",))
    write(folder / "broken" / "t00" / "a.wav", np.zeros(RATE))
    (folder / "empty").mkdir()
    write(folder / "short" / "a.wav", noise("a", 0.7))
    write(folder / "sparse" / "a" / "a.wav", np.append(noise("a", 0.01), np.zeros(60 * RATE)))
    return folder


@pytest.mark.parametrize(("args", "message"), BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_what_cannot_become_a_set_is_one_line_and_leaves_nothing(bad, monkeypatch, capsys, args, message):
    monkeypatch.chdir(bad)
    before = sorted(bad.iterdir())
    assert run(make_dataset, "--out", "set", *SMALL, *args.split()) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert all(line.startswith(("error: ", "left out: ", "note: ")) for line in lines)
    assert sorted(bad.iterdir()) == before
