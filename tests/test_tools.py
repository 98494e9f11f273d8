"""tools/: tables that add up, files that are whole, scoring that goes on where it stopped."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from config import Config
from models import complete
from tools.common.audio import write_wav
from tools.common.device import find_device
from tools.common.errors import UserError
from tools.common.files import fingerprint, replacing, write_csv
from tools.common.run_folder import read_config, save_checkpoint, save_config
from tools.reports.tables import average_gain, latex_table, score_table
from tools.scoring.kept_scores import Journal
from tools.training.run import open_run


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


def test_a_latex_table_holds_the_same_and_escapes_names():
    rows = rows_of([("seen_1", -5.0, [1.0, 2.0], [2.0, 3.0])])
    table = latex_table(
        [row | {"signal": row["signal"].replace("enhanced", "50%")} for row in rows], "pesq", ("noisy", "50%")
    )
    assert "seen\\_1 & noisy & 1.50 & 1.50 \\\\" in table
    assert "& 50\\% & \\textbf{2.50} & \\textbf{2.50} \\\\" in table
    assert "$-$5 dB & average" in table


def test_a_journal_goes_on_where_a_killed_process_stopped(tmp_path):
    path = tmp_path / "journal.jsonl"
    first = Journal(path, {"data": "a"})
    first.add(0, {"pesq": 1.5})
    first.add(1, {"pesq": float("nan")})
    with path.open("a") as file:
        file.write('[2, {"pes')
    second = Journal(path, {"data": "a"})
    assert list(second.results) == [0, 1]
    assert second.results[0] == {"pesq": 1.5}
    second.add(2, {"pesq": 2.0})
    assert list(Journal(path, {"data": "a"}).results) == [0, 1, 2]
    assert Journal(path, {"data": "b"}).results == {}


def test_a_journal_that_cannot_be_written_still_works(tmp_path):
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "journal.jsonl", {})
    journal.add(0, 1)
    assert journal.results == {0: 1}


def test_a_fingerprint_changes_with_one_byte(tmp_path):
    for name, content in (("a", b"speech"), ("b", b"speech"), ("c", b"speecH")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c


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
    write_wav(tmp_path / "a" / "x.wav", np.array([0, 0.5, 1.2, -1.2]))
    rate, pcm = wavfile.read(tmp_path / "a" / "x.wav")
    assert rate == 16000
    assert pcm.tolist() == [0, 16384, 32767, -32768]


def test_a_device_that_is_not_there_is_refused():
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device: found cuda:99"):
        find_device("cuda:99")


def test_a_run_is_not_continued_with_other_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_run(complete(Config(name="a", epochs=3))) == (complete(Config(name="a", epochs=3)), None, set())
    save_config(complete(Config(name="a", epochs=3)))
    longer = complete(Config(name="a", epochs=5))  # is no other run
    assert open_run(longer) == (longer, None, set())
    save_checkpoint(tmp_path / "runs/a/last.pt", {"config": {}, "model": {}, "epoch": 2})
    assert open_run(longer)[1]["epoch"] == 2
    other = complete(Config(name="a", epochs=5, network={"mask": "C"}, learning_rate=1e-3))
    with pytest.raises(UserError, match=r"holds a run with learning_rate 0.0005 \(now 0.001\), mask E \(now C\)"):
        open_run(other)
    assert open_run(other, "saved")[::2] == (longer, set())
    assert open_run(other, "new")[::2] == (other, {"network", "learning_rate"})


def test_more_epochs_are_another_run_where_the_schedule_ends_with_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_config(Config(name="a", epochs=3, schedule="cosine"))
    with pytest.raises(UserError, match=r"holds a run with epochs 3 \(now 5\)"):
        open_run(Config(name="a", epochs=5, schedule="cosine"))


@pytest.mark.parametrize("text", ["", "[]", '{"epochs": 0}', '{"colour": 1}'])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: (cannot be used|not the settings of a run)"):
        read_config(tmp_path)
