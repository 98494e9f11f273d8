"""tools/: scores that mean what they say, tables that add up, files that are whole."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from config import Config
from losses import TERMS
from tools.audio import write_wav
from tools.cli import UserError
from tools.device import find_device
from tools.files import replacing
from tools.run_folder import open_run, read_config, save_checkpoint
from tools.scores import SCORES, ScorePool, score
from tools.tables import average_gain, score_table, write_csv


def speech_like(seed=0, samples=32000):
    """A buzz with speech's rhythm and slope, [samples] float32, that PESQ takes for an utterance."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time + rng.uniform(0, 6)) / k for k in range(1, 40))
    return (0.05 * buzz * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def noise(seed=1, samples=32000):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def test_scores_of_speech_itself_are_the_best_there_are():
    clean = speech_like()
    values = score(clean, clean + 1e-6 * noise()).values
    assert values["pesq"] > 4.6
    assert values["stoi"] > 0.999
    assert values["estoi"] > 0.999
    assert values["si_sdr"] > 90


def test_scores_fall_with_the_noise():
    clean = speech_like()
    results = [score(clean, clean + level * noise()).values for level in (0.001, 0.01, 0.1)]
    for name in SCORES:
        assert results[0][name] > results[1][name] > results[2][name]


def test_si_sdr_agrees_with_the_loss_of_that_name():
    clean, noisy = speech_like(), speech_like() + 0.05 * noise() + 0.01
    loss = TERMS["SI-SDR"]()(torch.from_numpy(noisy)[None].double(), torch.from_numpy(clean)[None].double())
    assert score(clean, noisy, ("si_sdr",)).values["si_sdr"] == pytest.approx(-loss.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("clean", "signal", "reason"),
    [
        (np.zeros(32000, np.float32), noise(), "silent reference"),
        (speech_like(), np.zeros(32000, np.float32), "silent signal"),
        (speech_like(samples=100), noise(samples=100), ""),
    ],
)
def test_what_cannot_be_scored_is_named_and_not_averaged(clean, signal, reason):
    result = score(clean, signal, ("pesq", "stoi", "estoi"))
    assert set(result.failed) == {"pesq", "stoi", "estoi"}
    assert all(np.isnan(value) for value in result.values.values())
    assert all(why and reason in why and "\n" not in why for why in result.failed.values())


def test_a_pool_gives_the_same_scores_in_order():
    clean = speech_like()
    pairs = [(clean, clean + level * noise()) for level in np.linspace(0.01, 0.1, 12)]
    with ScorePool(2) as pool:
        results = list(pool.map(iter(pairs), ("stoi", "si_sdr")))
    for (reference, signal), result in zip(pairs, results, strict=True):
        assert result == score(reference, signal, ("stoi", "si_sdr"))


def rows_of(scores):
    """(noise type, dB, noisy values, enhanced values) to rows."""
    return [
        {"noise_type": noise_type, "snr_db": snr, "utterance": n, "signal": signal, "pesq": value}
        for noise_type, snr, *both in scores
        for signal, values in zip(("noisy", "enhanced"), both, strict=True)
        for n, value in enumerate(values)
    ]


def test_a_table_holds_the_averages_with_the_better_one_bold():
    rows = rows_of([("seen", 0.0, [1.0, 2.0], [2.0, 3.0]), ("seen", 5.0, [3.0, 3.0], [1.0, 2.0])])
    table = score_table(rows, "pesq")
    assert "| seen | 0 dB | 5 dB | average |" in table
    assert "| noisy | 1.50 | **3.00** | **2.25** |" in table
    assert "| enhanced | **2.50** | 1.50 | 2.00 |" in table
    assert average_gain(rows, "pesq") == pytest.approx(-0.25)


def test_an_utterance_without_a_score_is_left_out_of_both_rows_and_counted():
    nan = float("nan")
    table = score_table(rows_of([("seen", 0.0, [1.0, 4.0], [2.0, nan])]), "pesq")
    assert "| noisy | 1.00 | 1.00 |" in table
    assert "1 of 2 utterances have no PESQ" in table
    assert "| noisy | - | - |" in score_table(rows_of([("seen", 0.0, [nan], [nan])]), "pesq")


def test_a_csv_reads_back_with_empty_cells_for_missing_values(tmp_path):
    write_csv(tmp_path / "a.csv", [{"a": 1, "b": float("nan")}, {"a": "x,y", "b": 0.5}])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": ""}, {"a": "x,y", "b": "0.5"}]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_wav_file_holds_the_waveform_and_clips_without_wrapping(tmp_path):
    write_wav(tmp_path / "a" / "x.wav", np.array([0, 0.5, 1.2, -1.2]), 16000)
    rate, pcm = wavfile.read(tmp_path / "a" / "x.wav")
    assert rate == 16000
    assert pcm.tolist() == [0, 16384, 32767, -32768]


def test_a_device_that_is_not_there_is_refused():
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device: found cuda:99"):
        find_device("cuda:99")


def test_a_run_is_not_continued_with_other_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_run(Config(name="a", epochs=3)) is None
    assert open_run(Config(name="a", epochs=5)) is None  # more epochs are no other run
    save_checkpoint(tmp_path / "runs/a/last.pt", {"config": {}, "model": {}, "epoch": 2})
    assert open_run(Config(name="a"))["epoch"] == 2
    with pytest.raises(UserError, match=r"runs/a: holds a run with mask E \(now C\)"):
        open_run(Config(name="a", mask="C"))


@pytest.mark.parametrize("text", ["", "[]", '{"epochs": 0}', '{"colour": 1}'])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: not a run's config"):
        read_config(tmp_path)
