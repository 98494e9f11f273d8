"""tools.compare and tools.sweep: conclusions one can trust, and no comparison of what cannot be compared."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run
from matplotlib.figure import Figure
from programs import run

from tools import compare
from tools.common.files import write_csv
from tools.reports import compare_runs
from tools.reports.comparison import read_run
from tools.reports.tables import plain_text
from tools.reports.tuning import judge_rates


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty working directory, and no time spent on figures, which test_page.py looks at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare_runs, "score_curves", lambda *_: Figure((1, 1)))
    return tmp_path


def test_three_utterances_prove_nothing(capsys):
    make_run("a", "MSE", utterances=3)
    make_run("b", "SI-SNR", utterances=3, shift={"pesq": 0.1})
    assert run(compare, "a", "b", "--utterances") == 0
    report = capsys.readouterr().out
    assert "not distinguishable in PESQ (wide-band) (+0.1" in report
    assert "inf" not in report


def differences(name="comparison"):
    with Path(f"results/{name}/differences.csv").open(newline="") as file:
        return {(r["signal"], r["score"], r["noise_type"]): r for r in csv.DictReader(file)}


def test_a_comparison_says_better_worse_or_not_distinguishable_and_warns(capsys):
    make_run("a", "MSE")
    make_run("b", "SI-SNR", shift={"pesq": 0.1, "si_sdr": -0.4})
    make_run("c", "SDR")
    assert run(compare, "a", "b", "c") == 0
    found = differences()
    assert found["SI-SNR", "pesq", "all"]["verdict"] == "better"
    assert found["SI-SNR", "si_sdr", "unseen"]["verdict"] == "worse"
    assert found["SDR", "pesq", "all"]["verdict"] == "about equal"
    assert found["SDR", "si_sdr", "all"]["equal_within"] == "0.25"
    report = Path("results/comparison/tables.md").read_text()
    assert plain_text(report) in capsys.readouterr().out
    assert "There are no samples to listen to" in report
    assert "SI-SNR against MSE: better in PESQ (wide-band) (+0." in report
    assert ", 48 utterances); not distinguishable in ESTOI" in report
    assert "There are 48 noisy utterances, 12 in each of 4 cells of noise type and dB, made of 12 clean" in report
    assert "Attention: SI-SNR against MSE, the whole grid: PESQ (wide-band) rises by" in report
    assert "Attention: SDR" not in report


def test_the_tables_hold_the_averages_of_the_csv(capsys):
    rows = make_run("a", "MSE")
    make_run("b", "SI-SNR")
    assert run(compare, "a", "runs/b", "--name", "ab", "--utterances") == 0
    seen = [row for row in rows if (row["noise_type"], row["signal"]) == ("seen", "noisy")]
    means = {snr: np.mean([row["pesq"] for row in seen if row["snr_db"] == snr]) for snr in (-5.0, 5.0)}
    report = Path("results/ab/tables.md").read_text()
    assert "| seen | -5 dB | 5 dB | average |" in report
    assert f"| noisy | {means[-5.0]:.2f} | {means[5.0]:.2f} | {(means[-5.0] + means[5.0]) / 2:.2f} |" in report
    with Path("results/ab/scores.csv").open(newline="") as file:
        pooled = [r for r in csv.DictReader(file) if (r["signal"], r["noise_type"]) == ("MSE", "seen")]
    of_run = [r["pesq"] for r in rows if (r["signal"], r["noise_type"]) == ("enhanced", "seen")]
    assert np.mean([float(r["pesq"]) for r in pooled]) == pytest.approx(np.mean(of_run))
    assert {path.name for path in Path("results/ab").iterdir()} == {
        *("index.html", "scores.csv", "differences.csv", "tables.md", "tables.tex", "curves.png", "curves.pdf")
    }


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_the_latex_tables_compile_in_a_minimal_document():
    make_run("a", "MSE")
    make_run("b", "SI-SNR+LMS", mask="C")
    make_run("c", "SI-SNR+LMS", mask="E")
    assert run(compare, "a", "b", "c", "--utterances") == 0
    lines = (r"\documentclass{article}", r"\begin{document}", r"\input{tables.tex}", r"\end{document}")
    Path("results/comparison/paper.tex").write_text("\n".join(lines))
    command = ["pdflatex", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd="results/comparison", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_seeds_of_a_loss_are_pooled_and_their_spread_shown():
    for seed in (0, 1, 2):
        make_run(f"a{seed}", "MSE", seed, shift={"pesq": 0.1 * seed})
        make_run(f"b{seed}", "SI-SNR", seed)
    assert run(compare, "a0", "a1", "a2", "b0", "b1", "b2", "--utterances", "--baseline", "b1") == 0
    report = Path("results/comparison/tables.md").read_text()
    assert "| | seeds | PESQ (wide-band)" in report
    assert "| MSE | 3 | 1.89 ± 0.097 |" in report
    assert float(differences()["MSE", "pesq", "all"]["difference"]) == pytest.approx(0.1, abs=0.03)


REFUSALS = {
    "other data": (
        lambda: make_run("b", "SDR", data=2),
        ["a", "b"],
        "runs/b: was tested on other data",
    ),
    "other grid": (lambda: make_run("b", "SDR", utterances=3), ["a", "b"], "was tested on other data"),
    "one run": (lambda: None, ["a"], "runs: found 1, expected two or more"),
    "twice": (lambda: None, ["a", "a"], "the same experiment and seed is named twice"),
    "seeds alone": (lambda: make_run("b", seed=1), ["a", "b"], "all are seeds of one experiment (MSE)"),
    "no run": (lambda: None, ["a", "none"], "runs/none/config.json: no such run"),
    "baseline": (lambda: make_run("b", "SDR"), ["a", "b", "--baseline", "c"], "baseline: found c"),
    "name": (lambda: make_run("b", "SDR"), ["a", "b", "--name", "../x"], "name: found '../x'"),
    "no sample": (lambda: make_run("b", "SDR", samples=1), ["a", "b"], "000_noisy.wav: no such sample; test that"),
    "utterance": (lambda: make_run("b", "SDR"), ["a", "b", "--utterances", "40"], "utterances: found 40"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_compared_is_refused_in_one_line_and_nothing_is_written(workplace, capsys, case):
    make_run("a")
    spoil, args, message = REFUSALS[case]
    spoil()
    assert run(compare, *args) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert message in error[0]
    assert not (workplace / "results").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("estoi", "other"), "scores.csv: has no column estoi"),
        (lambda text: text.replace("-5.0", "loud"), "scores.csv: line 2: Expected `float`"),
        (lambda text: text.splitlines()[0], "scores.csv: line 2: cut off"),
        (lambda text: text.splitlines()[0] + "\n", "scores.csv: holds no scores"),
    ],
)
def test_damaged_scores_are_named(capsys, change, message):
    make_run("a")
    make_run("b", "SDR")
    path = Path("runs/b/test/scores.csv")
    path.write_text(change(path.read_text()))
    assert run(compare, "a", "b") == 2
    assert message in capsys.readouterr().err


def test_a_run_keeps_its_scores_on_each_set_and_is_compared_on_the_one_that_is_named(capsys):
    for name, loss in (("a", "MSE"), ("b", "SDR")):
        for number in (1, 2):  # two sets, as test.py writes them
            shutil.rmtree(Path("runs") / f"{name}_{number}", ignore_errors=True)
            make_run(f"{name}_{number}", loss, data=number)
            place = Path("runs") / name / "test" / f"set{number}"
            place.mkdir(parents=True)
            shutil.copy(Path("runs") / f"{name}_{number}" / "test" / "scores.csv", place)
        shutil.copy(Path("runs") / f"{name}_1" / "config.json", Path("runs") / name)
    assert read_run("a", "data/set1").rows == read_run("a_1").rows  # the latter in the old place
    assert read_run("a", "set2").rows == read_run("a_2").rows
    assert run(compare, "a", "b", "--utterances") == 2
    assert "was tested on set1, set2, not on demo; choose one with --data" in capsys.readouterr().err
    assert run(compare, "a", "b", "--utterances", "--data", "set2") == 0


def test_runs_of_one_loss_with_other_settings_are_told_apart():
    make_run("a", mask="E")
    make_run("b", mask="C")
    assert run(compare, "a", "b", "--utterances") == 0
    assert ("MSE (mask C)", "pesq", "all") in differences()


def test_the_comparison_shows_the_tuned_rates_and_refuses_another_table(capsys):
    make_run("a", "MSE")
    make_run("b", "SI-SNR", learning_rate=1e-3)
    history = {
        rate: [{"valid_pesq": 1.5 - rate, "valid_estoi": 0.6, "valid_si_sdr": 5.0}] for rate in (1e-4, 1e-3)
    }
    write_csv(Path("tuning.csv"), judge_rates("MSE", history))
    assert run(compare, "a", "b", "--utterances", "--tuning", "tuning.csv") == 0
    assert "| MSE, 0.0001, chosen | **1.50** | **0.600** |" in Path("results/comparison/tables.md").read_text()
    assert "the best rate may lie beyond those tried for MSE (0.0001); give" in capsys.readouterr().out
    assert Path("results/comparison/tuning.png").is_file()
    history[1e-5] = [{"valid_pesq": 1.1, "valid_estoi": 0.6, "valid_si_sdr": 5.0}]
    write_csv(Path("tuning.csv"), judge_rates("MSE", history))
    assert run(compare, "a", "b", "--utterances", "--tuning", "tuning.csv") == 0
    assert "the best rate may lie beyond" not in capsys.readouterr().out
    Path("tuning.csv").write_text("a,b\n1,2\n")
    assert run(compare, "a", "b", "--utterances", "--tuning", "tuning.csv") == 2
    assert "tuning.csv: line 2: Object missing required field" in capsys.readouterr().err


def test_wrong_values_of_pesq_are_named_and_left_out_for_all_signals_if_asked(capsys):
    make_run("a", "MSE")
    make_run("b", "SI-SNR+PMSQE", shift={"pesq": 0.1})
    path = Path("runs/b/test/scores.csv")
    rows = list(csv.DictReader(path.open(newline="")))
    wrong = next(row for row in rows if row["signal"] == "enhanced" and row["utterance"] == "7")
    wrong |= {"pesq": "4.21", "pesq_nb": "1.11", "stoi": "0.28", "estoi": "0.12"}
    write_csv(path, rows)
    means = {}
    for flagged in ("keep", "leave-out"):
        assert run(compare, "a", "b", "--utterances", "--flagged", flagged, "--name", flagged) == 0
        report = Path(f"results/{flagged}/tables.md").read_text()
        assert (
            "SI-SNR+PMSQE, seed 0, seen noise, -5 dB, utterance 7, enhanced: PESQ 4.21, but narrow-band" in report
        )
        means[flagged] = differences(flagged)["SI-SNR+PMSQE", "pesq", "seen"]
    assert "utterances have no PESQ (wide-band) and are left out." in report
    assert float(means["keep"]["difference"]) > float(means["leave-out"]["difference"]) + 0.05
    assert int(means["keep"]["utterances"]) > int(means["leave-out"]["utterances"])


def test_a_loss_whose_own_metric_alone_rises_gets_a_plain_sentence(capsys):
    make_run("a", "SI-SNR")
    make_run("b", "SI-SNR+PMSQE", shift={"pesq": 0.1, "estoi": -0.1})
    make_run("c", "SI-SNR+LMS", shift={"pesq": 0.1, "estoi": -0.1})
    assert run(compare, "a", "b", "c", "--utterances") == 0
    report = Path("results/comparison/tables.md").read_text()
    assert "Attention: SI-SNR+PMSQE is trained on what PESQ (wide-band) and PESQ" in report or (
        "Attention: SI-SNR+PMSQE is trained on what PESQ (wide-band) measures. Against SI-SNR" in report
    )
    assert "Attention: SI-SNR+LMS is trained on" not in report


def test_too_few_independent_utterances_are_said_to_be_too_few():
    make_run("a", "MSE", utterances=4)
    make_run("b", "SI-SNR", utterances=4)
    assert run(compare, "a", "b", "--utterances") == 0
    report = Path("results/comparison/tables.md").read_text()
    assert "Attention: 4 independent utterances are too few to conclude from; test 10 or more." in report
