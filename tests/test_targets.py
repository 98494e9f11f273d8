"""tools.make_dataset: a target is clean speech and its label is true, whatever the recordings are like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from programs import run
from recordings import noise, speech, write
from sets import describe

from tools import make_dataset, score

SHORT = ("--seconds", "2", "--workers", "1", "--test_snr_db", "0", "10")
TALKERS = [f"t{number}" for number in range(3)]


def voice(name: str, seconds: float = 2.0) -> np.ndarray:
    """Speech without an offset of its own."""
    found = speech(name, seconds)
    return found - found.mean()


def make(folder: Path, *args: object) -> int:
    return run(make_dataset, "--out", folder / "set", *SHORT, *args)


def items_of(folder: Path):
    """(noisy, clean, record) of every item on disk, [samples] in [-1, 1]."""
    description = describe(folder / "set")
    for split, records in description["items"].items():
        array = np.load(folder / "set" / f"{split}.npy") / 32768
        for number, record in enumerate(records):
            place = number
            if split == "test":
                place = description["noise_types"].index(record["row"]), record["column"], record["utterance"]
            yield *array[place], record


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


RECORDINGS = {
    "an offset below the speech": (lambda v: v + 0.02, "with a DC offset"),
    "an offset above the speech": (lambda v: v + 0.1, "with a DC offset"),
    "channels of opposite phase": (
        lambda v: np.stack([v + 0.002 * noise("l", 2.0), 0.002 * noise("r", 2.0) - v], axis=1),
        "of opposite phase",
    ),
}


@pytest.mark.parametrize("case", RECORDINGS)
def test_the_target_is_the_speech_and_its_label_is_true(tmp_path, capsys, case: str):
    change: Callable[[np.ndarray], np.ndarray] = RECORDINGS[case][0]
    for talker in TALKERS:
        write(tmp_path / "speech" / f"{talker}.wav", change(voice(talker)), subtype="FLOAT")
    for number in range(4):
        write(tmp_path / "noise" / "rain" / f"{number}.wav", change(noise(str(number), 2.0)), subtype="FLOAT")
    assert make(tmp_path, "--speech", tmp_path / "speech", "--noise", tmp_path / "noise") == 0
    for noisy, clean, record in items_of(tmp_path):
        said = voice(record["talker"])
        assert correlation(clean, said) > 0.999
        assert abs(clean.mean()) < 1e-4
        span = slice(*record["active"])
        level = 20 * np.log10(clean[span].std() / (noisy - clean)[span].std())
        assert level == pytest.approx(record["snr_db"], abs=0.02)


def test_scores_are_those_without_an_offset(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clean = voice("a")
    write(tmp_path / "clean.wav", clean)
    write(
        tmp_path / "enhanced.wav",
        clean + 0.1 * np.std(clean) * np.random.default_rng(0).standard_normal(32000) + 0.1,
    )
    assert (
        run(score, tmp_path / "clean.wav", tmp_path / "enhanced.wav", "--metrics", "si_sdr", "--workers", 1) == 0
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "SI-SDR (dB) 20.0" in printed
    assert "1 with a DC offset (removed)" in printed
