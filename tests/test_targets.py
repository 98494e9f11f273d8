"""tools.make_dataset: a target is clean speech and its label is true, whatever the recordings are like."""

from pathlib import Path

import numpy as np
import pytest
from programs import run
from recordings import RATE, noise, speech, write
from sets import describe, items_of, snr_db

from tools import make_dataset, score

SECONDS = 2.0
SHORT = ("--seconds", SECONDS, "--workers", "1", "--test_snr_db", "0", "10")


def voice(name: str, seconds: float = SECONDS) -> np.ndarray:
    """Speech from the first to the last sample, without an offset."""
    found = speech(name, seconds) + 0.02 * noise(name, seconds)
    return found - found.mean()


def hiss(name: str, rms: float, seconds: float = SECONDS) -> np.ndarray:
    found = np.random.default_rng(len(name)).standard_normal(round(seconds * RATE))
    return rms * found / found.std()


def make(folder: Path, *options: object) -> int:
    return run(make_dataset, "--out", folder / "set", *SHORT, *options)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def stereo(v: np.ndarray) -> np.ndarray:
    return np.stack(
        [v + hiss("l", 0.001, v.size / RATE), 0.99 * hiss("right", 0.001, v.size / RATE) - 0.99 * v], axis=1
    )


LATE = 3.5  # seconds of room noise before the speech
SOURCES = {  # what becomes of speech and noise, options, the note
    "an offset below the speech": (lambda v: v + 0.02, lambda n: n - 0.02, "", "with a DC offset"),
    "an offset above the speech": (lambda v: v + 0.1, lambda n: n + 0.1, "", "with a DC offset"),
    "channels of opposite phase": (stereo, stereo, "", "whose channels cancel"),
    "late speech": (lambda v: np.append(hiss("room", 5e-4, LATE), v), None, "", "that begin 20 dB or more below"),
    "late speech, every clip": (
        lambda v: np.concatenate([hiss("room", 5e-4, 4.0), v]),
        None,
        "--cut every",
        "with clips 20 dB or more below their speech",
    ),
    "clipping": (lambda v: np.clip(v, -0.1, 0.1), None, "", "that are clipped"),
    "telephone speech": (None, None, "", "1 of 3 recordings of speech without sound above 4.3 kHz"),
    "noise in silence": (None, lambda n: np.pad(n[:3200], (RATE, 18 * RATE)), "", "that are mostly silent"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_the_target_is_the_speech_and_its_label_is_true(tmp_path, capsys, case: str):
    of_speech, of_noise, options, note = SOURCES[case]
    for number in range(3):
        said = voice(f"t{number}")
        if case == "telephone speech" and number == 1:
            spectrum = np.fft.rfft(said)
            spectrum[round(4000 * SECONDS) :] = 0
            said = np.fft.irfft(spectrum)
        write(tmp_path / "speech" / f"t{number}.wav", of_speech(said) if of_speech else said, subtype="FLOAT")
        heard = noise(str(number), 2 * SECONDS)
        write(tmp_path / "noise/rain" / f"{number}.wav", of_noise(heard) if of_noise else heard, subtype="FLOAT")
    assert make(tmp_path, "--speech", tmp_path / "speech", "--noise", tmp_path / "noise", *options.split()) == 0
    printed = capsys.readouterr().err
    assert note in printed
    assert "3 talkers (t0, t1, t2) are in the speech" in printed
    assert "1 talker" in printed  # in the test: too few
    for noisy, clean, record in items_of(tmp_path / "set"):
        if "late" in case:
            assert record["start"] == pytest.approx(LATE * RATE if options == "" else 4 * RATE, abs=3200)
            assert record["speech_gain"] < 1
        elif case not in ("telephone speech", "clipping"):
            assert similarity(clean, voice(record["talker"])) > 0.999
        assert abs(clean.mean()) < 1e-3 * 32768
        assert snr_db(noisy, clean, record) == pytest.approx(record["snr_db"], abs=0.1)


PAIRS = {  # what becomes of the noisy file, delay and gain in the record, or why it is left out
    "equal": (lambda y: y, 0, 1),
    "late": (lambda y: np.append(np.zeros(320), y)[: y.size], 320, 1),
    "early": (lambda y: y[160:], -160, 1),
    "inverted": (lambda y: -y, 0, -1),
    "scaled": (lambda y: 0.5 * y, 0, 0.5),
    "late, inverted, scaled": (lambda y: np.append(np.zeros(700), -0.3 * y), 700, -0.3),
    "some samples longer": (lambda y: np.append(y, np.zeros(30)), 0, 1),
    "offset": (lambda y: y + 0.1, 0, 1),
    "longer": (lambda y: np.append(y, np.zeros(900)), "but", None),
    "other speech": (lambda y: 0.5 * voice("other"), "does not hold the clean speech", None),
    "no noise": (None, "holds no noise", None),
}


def test_pairs_that_do_not_fit_are_aligned_or_named(tmp_path, capsys):
    for number, (change, *_) in enumerate(PAIRS.values()):
        clean = voice(f"t{number}")
        mixture = change(clean + hiss(str(number), clean.std() / 10**0.5)) if change else clean
        write(tmp_path / "clean" / f"t{number}.wav", clean, subtype="FLOAT")
        write(tmp_path / "noisy" / f"t{number}.wav", mixture, subtype="FLOAT")
    assert make(tmp_path, "--pairs", tmp_path / "noisy", tmp_path / "clean") == 0
    printed = capsys.readouterr().err
    assert "3 of 8 recordings of speech whose noisy file is late or early (aligned), the first: " in printed
    assert "3 of 8 recordings of speech whose noisy file is scaled or inverted (so is the target)" in printed
    found = {record["talker"]: (noisy, clean, record) for noisy, clean, record in items_of(tmp_path / "set")}
    left_out = describe(tmp_path / "set")["left_out"]
    for number, (_, delay, gain) in enumerate(PAIRS.values()):
        if isinstance(delay, str):
            assert sum(f"noisy/t{number}.wav: " in line and delay in line for line in left_out) == 1
            continue
        noisy, clean, record = found[f"t{number}"]
        assert record["delay"] == delay
        assert record["clean_gain"] == pytest.approx(gain, rel=0.02)
        assert record["snr_db"] == pytest.approx(10, abs=0.3)
        assert snr_db(noisy, clean, record) == pytest.approx(record["snr_db"], abs=0.02)


def test_several_noisy_files_of_one_clean_one_are_all_used(tmp_path, capsys):
    for number in range(3):
        clean = voice(f"t{number}")
        write(tmp_path / "clean" / f"clnsp{number}.wav", clean, subtype="FLOAT")
        for snr in (0, 10, 20):
            mixture = clean + hiss(str(snr), clean.std() / 10 ** (snr / 20))
            write(tmp_path / "noisy" / f"noisy{number}_SNRdb_{snr}.0_clnsp{number}.wav", mixture, subtype="FLOAT")
    folders = ("--pairs", tmp_path / "noisy", tmp_path / "clean")
    assert make(tmp_path, *folders) == 2
    assert "by --pair_key" in capsys.readouterr().err.splitlines()[-1]
    assert make(tmp_path, *folders, "--pair_key", r"(clnsp\d+)", "--talker", r"(clnsp\d+)") == 0
    items = describe(tmp_path / "set")["items"]
    assert {split: len({i["talker"] for i in those}) for split, those in items.items()} == dict.fromkeys(items, 1)
    levels = sorted(item["snr_db"] for those in items.values() for item in those)
    assert levels == pytest.approx([0, 0, 0, 10, 10, 10, 20, 20, 20], abs=0.3)


def test_short_noises_in_one_folder_are_one_type_with_the_option_that_the_error_names(tmp_path, capsys):
    for number in range(6):
        write(tmp_path / "speech" / f"t{number}.wav", voice(f"t{number}"))
        write(tmp_path / "noise" / f"1-{number}-A-{number}.wav", noise(str(number), 1.5 * SECONDS))
    sources = ("--speech", tmp_path / "speech", "--noise", tmp_path / "noise")
    assert make(tmp_path, *sources) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum("noise type" in line for line in lines[:-1]) == 1
    assert "or one of 6 s" in lines[-1]
    assert "--noise_type ''" in lines[-1]
    assert make(tmp_path, *sources, "--noise_type", "") == 0


def test_scores_are_those_without_an_offset(here, capsys):
    clean = voice("a")
    write(here / "clean.wav", clean, subtype="FLOAT")
    write(here / "enhanced.wav", clean + hiss("a", 0.1 * clean.std()) + 0.1, subtype="FLOAT")
    assert run(score, here / "clean.wav", here / "enhanced.wav", "--metrics", "si_sdr", "--workers", 1) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "SI-SDR (dB) 20.0" in printed
    assert "1 with a DC offset (removed)" in printed
