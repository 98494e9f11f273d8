"""tools/: tables that add up, files that are whole, scoring that goes on where it stopped."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from config import Config
from models import complete
from tools.common.audio import write_wav
from tools.common.errors import UserError
from tools.common.files import replacing, write_csv
from tools.common.processes import ProcessPool
from tools.common.run_folder import read_config, save_checkpoint, save_config
from tools.reports.tables import Table, left_out, score_tables, terminal
from tools.scoring.grid import ScoreCache
from tools.scoring.scores import Scores
from tools.training.run import open_run


def scores_of(*cells):
    """(noise type, dB, noisy values, enhanced values) to scores."""
    rows = [
        {"noise_type": noise_type, "snr_db": snr, "utterance": n, "signal": signal, "seed": 0, "pesq": value}
        for noise_type, snr, *both in cells
        for signal, values in zip(("noisy", "enhanced"), both, strict=True)
        for n, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_a_table_holds_the_averages_with_the_better_one_bold():
    (table,) = score_tables(
        scores_of(("seen", 0.0, [1.0, 2.0], [2.0, 3.0]), ("seen", 5.0, [3, 3], [1, 2])), "pesq"
    )
    assert table.markdown().splitlines() == [
        "### PESQ (wide-band), seen",
        "",
        "| seen | 0 dB | 5 dB | average |",
        "|---|---|---|---|",
        "| noisy | 1.50 | **3.00** | **2.25** |",
        "| enhanced | **2.50** | 1.50 | 2.00 |",
    ]
    assert table.terminal().splitlines()[2:] == [
        "noisy    1.50  3.00*    2.25*",
        "enhanced 2.50* 1.50     2.00",
    ]


def test_values_that_print_alike_are_all_bold_or_none():
    scores = scores_of(("seen", 0.0, [1.501], [1.499]), ("seen", 5.0, [1.0], [2.0]))
    (table,) = score_tables(scores, "pesq")
    assert "| noisy | 1.50 | 1.00 | 1.25 |" in table.markdown()
    assert "| enhanced | 1.50 | **2.00** | **1.75** |" in table.markdown()


def test_a_latex_table_holds_the_same_and_escapes_names():
    scores = scores_of(("seen_1", -5.0, [-1.0, 2.0], [2.0, 3.0])).replace("enhanced", "SI-SNR 50%")
    (table,) = score_tables(scores, "pesq")
    assert "\nseen\\_1 & $-$5 dB & average \\\\\n" in table.latex()
    assert "\nnoisy & 0.50 & 0.50 \\\\\n" in table.latex()
    assert "\nSI-SNR 50\\% & \\textbf{2.50} & \\textbf{2.50} \\\\\n" in table.latex()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 90))
def test_no_row_of_a_table_wraps_on_a_terminal(widths, label):
    columns = [f"{number}{'c' * width}" for number, width in enumerate(widths)]
    table = Table.of({"a " * label: ["x" * width for width in widths]}, columns)
    text = terminal(["word " * 40, table])
    assert max(map(len, text.splitlines())) <= 80
    assert all(column in text for column in columns)


def test_an_interrupted_test_resumes_with_its_scores(tmp_path):
    (tmp_path / "grid").write_bytes(b"speech")
    path = tmp_path / "scores.jsonl"
    first = ScoreCache(path, tmp_path / "grid", ("pesq", "stoi"))
    first.add(0, Scores({"pesq": 1.5}))
    first.add(1, Scores({"pesq": float("nan"), "stoi": 0.5}, {"pesq": "silent"}))
    first.close()
    with path.open("a") as file:
        file.write('[2, {"val')  # killed
    second = ScoreCache(path, tmp_path / "grid", ("pesq", "stoi"))
    assert [second.missing(number) for number in range(3)] == [["stoi"], [], ["pesq", "stoi"]]
    second.add(2, Scores({"pesq": 2.0}))
    second.close()
    third = ScoreCache(path, tmp_path / "grid", ("pesq",))
    assert third[0].values == {"pesq": 1.5}
    assert third[1].failed == {"pesq": "silent"}
    assert third[2].values == {"pesq": 2.0}
    (tmp_path / "grid").write_bytes(b"speecH")
    assert ScoreCache(path, tmp_path / "grid", ("pesq",)).missing(0) == ["pesq"]


def test_scores_beside_data_that_may_not_be_written_are_kept_in_memory(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = ScoreCache(tmp_path / "file" / "scores.jsonl", tmp_path / "file", ("pesq",))
    cache.add(0, Scores({"pesq": 1.0}))
    assert cache.missing(0) == []


def test_an_utterance_without_a_score_is_left_out_of_both_rows_and_counted():
    scores = scores_of(("seen", 0.0, [1.0, 4.0], [2.0, np.nan]))
    assert "| noisy | 1.00 | 1.00 |" in score_tables(scores, "pesq")[0].markdown()
    assert left_out(scores, ["pesq"]) == ["1 of 2 utterances have no PESQ (wide-band) and are left out."]
    none = scores_of(("seen", 0.0, [np.nan], [np.nan]))
    assert "| noisy | – | – |" in score_tables(none, "pesq")[0].markdown()


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


def test_a_command_that_is_told_to_stop_leaves_no_half_written_file(tmp_path):
    program = """
import time
from tools.common.command_line import run_command
from tools.common.files import replacing
def main():
    with replacing("file") as temporary:
        temporary.write_text("half")
        print(flush=True)
        time.sleep(600)
run_command(main)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    arguments = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **arguments) as process:
        process.stdout.readline()
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_a_wav_file_holds_the_waveform_and_clips_without_wrapping(tmp_path):
    write_wav(tmp_path / "a" / "x.wav", np.array([0, 0.5, 1.2, -1.2]))
    rate, pcm = wavfile.read(tmp_path / "a" / "x.wav")
    assert rate == 16000
    assert pcm.tolist() == [0, 16384, 32767, -32768]


def test_a_run_is_not_continued_with_other_settings(here):
    assert open_run(complete(Config(name="a", epochs=3))) == (complete(Config(name="a", epochs=3)), None, set())
    save_config(complete(Config(name="a", epochs=3)))
    longer = complete(Config(name="a", epochs=5))  # is no other run
    assert open_run(longer) == (longer, None, set())
    save_checkpoint(here / "runs/a/last.pt", {"config": {}, "model": {}, "epoch": 2})
    assert open_run(longer)[1]["epoch"] == 2
    other = complete(Config(name="a", epochs=5, network={"mask": "C"}, learning_rate=1e-3))
    with pytest.raises(UserError, match=r"holds a run with learning_rate 0.0005 \(now 0.001\), mask E \(now C\)"):
        open_run(other)
    assert open_run(other, "saved")[::2] == (longer, set())
    assert open_run(other, "new")[::2] == (other, {"network", "learning_rate"})


def test_more_epochs_are_another_run_where_the_schedule_ends_with_them(here):
    save_config(Config(name="a", epochs=3, schedule="cosine"))
    with pytest.raises(UserError, match=r"holds a run with epochs 3 \(now 5\)"):
        open_run(Config(name="a", epochs=5, schedule="cosine"))


@pytest.mark.parametrize("text", ["", "[]", '{"epochs": 0}', '{"colour": 1}'])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: not the settings of a run"):
        read_config(tmp_path)


def test_a_killed_fork_server_is_no_success(monkeypatch):
    def submit(*_):
        raise BrokenPipeError

    with ProcessPool(2) as pool:
        monkeypatch.setattr(pool._executor, "submit", submit)
        with pytest.raises(UserError, match="killed by the system"):
            list(pool.starmap(len, [()]))
