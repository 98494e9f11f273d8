"""tools.compare: conclusions one can trust, and no comparison of what cannot be compared."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_runs import make_run
from matplotlib.figure import Figure
from programs import refused, run

from tools import compare
from tools.reports import figures
from tools.reports.comparison import UTTERANCE, by_seed, choose_rate, per_utterance, read_run, read_scores
from tools.scoring.scores import STANDARD


@pytest.fixture(autouse=True)
def workplace(here, monkeypatch):
    """An empty working directory, and no time spent on figures, which test_figures.py looks at."""
    monkeypatch.setattr(figures, "score_curves", lambda *_: Figure((1, 1)))
    return here


def report(name="comparison"):
    return Path(f"results/{name}/tables.md").read_text()


def differences(name="comparison"):
    table = pd.read_csv(f"results/{name}/differences.csv")
    return {(row["signal"], row["metric"], row["noise_type"]): row for row in table.to_dict("records")}


def test_a_comparison_says_better_worse_or_not_distinguishable_and_warns(capsys):
    make_run("a", "MSE")
    make_run("b", "SI-SNR", shift={"pesq": 0.1, "si_sdr": -0.4})
    make_run("c", "SDR")
    assert run(compare, "a", "b", "c") == 0
    found = differences()
    assert found["SI-SNR", "pesq", "all"]["verdict"] == "better"
    assert found["SI-SNR", "si_sdr", "unseen"]["verdict"] == "worse"
    assert found["SDR", "pesq", "all"]["verdict"] == "about equal"
    assert found["SDR", "si_sdr", "all"]["equal_within"] == 0.25
    assert "There are no samples to listen to" in report()
    assert "48 noisy utterances with 12 clean recordings; one seed." in report()
    assert "Attention: SI-SNR against MSE: better in PESQ (wide-band) (+0." in report()
    assert "Attention: SDR" not in report()
    printed = capsys.readouterr().out
    assert "△ 1.9" in printed
    assert "SI-SNR against MSE: better in" in printed


def test_the_console_shows_the_main_scores_within_80_columns_and_the_files_all(capsys):
    make_run("a", "SI-SNR+0.3*MR-STFT", learning_rate=3e-3, batch_size=8)
    make_run("b", "SI-SNR+0.3*MR-STFT", learning_rate=1e-3, batch_size=16)
    assert run(compare, "a", "b") == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "SI-SDR (dB), seen" in printed
    assert "CSIG, seen" not in printed
    assert "### CSIG, seen" in report()


def test_the_papers_table_fits_80_columns_with_latex(capsys):
    for name in ("MSE", "SI-SNR+0.3*MR-STFT"):
        make_run(name.replace("*", ""), name)
    assert run(compare, "MSE", "SI-SNR+0.3MR-STFT", "--paper") == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert [line for line in printed if line.endswith("noise")] == 2 * ["seen noise", "unseen noise"]
    assert Path("results/comparison/paper.tex").read_text().count(r"\begin{table}") == 2


def test_the_order_of_losses_is_compared_between_scores_seeds_and_networks():
    names = []
    for loss, shift in (("MSE", 0.0), ("SDR", 0.5), ("SI-SNR", 1.0)):
        for seed in (0, 1):
            names.append(f"{loss}{seed}")
            make_run(names[-1], loss, seed=seed, shift=dict.fromkeys(STANDARD, shift), spread=0.01)
    assert run(compare, *names) == 0
    assert "Kendall's τ (1: the same, 0: unrelated): 1.00 between seeds, 1.00 between metrics." in report()


def test_three_utterances_prove_nothing():
    make_run("a", "MSE", utterances=3)
    make_run("b", "SI-SNR", utterances=3, shift={"pesq": 0.1})
    assert run(compare, "a", "b", "--utterances") == 0
    assert "Attention: 3 clean recordings are too few for intervals and marks" in report()
    assert not set("▲▼△▽≈·[") & set(report())
    assert differences()["SI-SNR", "pesq", "all"]["difference"] == pytest.approx(0.1, abs=0.05)


def test_the_tables_hold_the_averages_of_the_csv():
    rows = pd.DataFrame(make_run("a", "MSE"))
    make_run("b", "SI-SNR")
    assert run(compare, "a", "runs/b", "--name", "ab", "--utterances") == 0
    noisy = rows[(rows["noise_type"] == "seen") & (rows["signal"] == "noisy")]
    low, high = noisy.groupby("snr_db")["pesq"].mean()
    assert "| seen | -5 dB | 5 dB | average |" in report("ab")
    assert f"| noisy | {low:.2f} | {high:.2f} | {(low + high) / 2:.2f} |" in report("ab")
    written = pd.read_csv("results/ab/scores.csv")
    enhanced = rows.loc[rows["signal"] == "enhanced", "pesq"]
    assert written.loc[written["signal"] == "MSE", "pesq"].mean() == pytest.approx(enhanced.mean())
    assert {path.name for path in Path("results/ab").iterdir()} == {
        *("index.html", "scores.csv", "differences.csv", "tables.md", "tables.tex", "curves.png", "curves.pdf")
    }


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_the_latex_tables_compile_in_a_minimal_document():
    make_run("a", "MSE")
    make_run("b", "SI-SNR+LMS", network={"mask": "C"})
    make_run("c", "SI-SNR+LMS", network={"mask": "E"})
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
    assert "| | seeds | PESQ (wide-band)" in report()
    assert "| MSE | 3 | 1.89 ± 0.097 |" in report()
    assert "### Difference from SI-SNR, the whole grid, over seeds" in report()
    assert differences()["MSE", "pesq", "all"]["difference"] == pytest.approx(0.1, abs=0.03)


def test_a_seed_without_opinions_counts_in_the_other_scores_alone_but_a_failed_one_everywhere():
    rows = [
        {
            "noise_type": "rain",
            "snr_db": 0.0,
            "utterance": 0,
            "signal": signal,
            "seed": seed,
            "dnsmos_ovrl": opinion,
        }
        for signal, seed, opinion in (("MSE", 0, math.nan), ("MSE", 1, 3.0), ("SNR", 0, math.nan))
    ]
    opinions = by_seed(pd.DataFrame(rows[:2]), "dnsmos_ovrl")
    assert opinions.to_dict("list") == {("MSE", 1): [3.0]}
    assert by_seed(pd.DataFrame(rows), "dnsmos_ovrl").isna().all(axis=None)
    failed = pd.DataFrame(rows[:2]).rename(columns={"dnsmos_ovrl": "pesq"})
    assert list(by_seed(failed, "pesq")) == [("MSE", 0), ("MSE", 1)]


def test_opinions_of_some_utterances_and_seeds_are_compared_and_their_number_is_told():
    for name, seed, scored in (("a", 0, 12), ("b", 1, 6), ("c", 2, 0), ("d", 0, 6)):
        make_run(name, "SNR" if name == "d" else "MSE", seed)
        scores = pd.read_csv(path := Path(f"runs/{name}/test/demo/scores.csv"))
        scores.assign(dnsmos_ovrl=np.where(scores["utterance"] < scored, 3.0, math.nan)).to_csv(path, index=False)
    assert run(compare, "a", "b", "c", "d") == 0
    assert "24 of 48 utterances have no DNSMOS OVRL and are left out." in report()
    assert "DNSMOS OVRL is that of 3 of 4 runs." in report()


def test_runs_of_one_loss_with_other_settings_are_told_apart():
    make_run("a", network={"mask": "E"})
    make_run("b", network={"mask": "C"})
    assert run(compare, "a", "b", "--utterances") == 0
    assert ("MSE (mask C)", "pesq", "all") in differences()


def test_runs_are_compared_in_the_scores_that_they_share_of_those_asked_for(capsys):
    make_run("a", "MSE")
    make_run("b", "SDR")
    path = Path("runs/b/test/demo/scores.csv")
    pd.read_csv(path)[["noise_type", "snr_db", "utterance", "signal", "ssnr", "stoi"]].to_csv(path, index=False)
    for asked, expected in {
        "": {"ssnr", "stoi"},
        "--metrics stoi": {"stoi"},
        "--metrics ssnr": {"ssnr"},
        "--metrics pesq stoi": {"stoi"},
    }.items():
        assert run(compare, "a", "b", "--utterances", *asked.split()) == 0
        assert {metric for _, metric, _ in differences()} == expected
    assert "| SDR | " in report()
    assert "Left out, as not all runs have them: PESQ (wide-band)." in capsys.readouterr().out


def test_intervals_are_over_talkers_and_noise_recordings_if_they_are_known():
    for name, loss in (("a", "MSE"), ("b", "SDR")):
        make_run(name, loss)
        path = Path(f"runs/{name}/test/demo/scores.csv")
        scores = pd.read_csv(path)
        number = scores["utterance"]
        drawn = {
            "talker": "t" + (number % 11).astype(str),
            "noise": scores["noise_type"] + (number % 4).astype(str),
        }
        scores.assign(**drawn).to_csv(path, index=False)
    assert run(compare, "a", "b", "--utterances") == 0
    assert "48 noisy utterances with 11 talkers and 8 noise recordings; one seed." in report()
    assert differences()["SDR", "pesq", "seen"]["noise recordings"] == 4


def test_scores_of_earlier_versions_are_read():
    make_run("a", "MSE")
    path = Path("runs/a/test/demo/scores.csv")
    scores = read_scores(path)
    assert (scores["clean_id"] == scores["utterance"]).all()  # without a column for it
    scores.rename(columns={"clean_id": "clean"}).assign(alarm="why", clean=7).to_csv(path, index=False)
    again = read_scores(path)
    assert (again["clean_id"] == 7).all()
    assert again["pesq"].equals(scores["pesq"])


REFUSALS = {
    "other data": (lambda: make_run("b", "SDR", data=2), ["a", "b"], "runs/b: was tested on other data"),
    "other grid": (lambda: make_run("b", "SDR", utterances=3), ["a", "b"], "was tested on other data"),
    "one run": (lambda: None, ["a"], "runs: found MSE, expected two or more"),
    "twice": (lambda: None, ["a", "a"], "the same experiment and seed is named twice"),
    "seeds alone": (lambda: make_run("b", seed=1), ["a", "b"], "runs: found MSE, expected two or more"),
    "no run": (lambda: None, ["a", "none"], "runs/none/config.json: no such run"),
    "baseline": (lambda: make_run("b", "SDR"), ["a", "b", "--baseline", "c"], "baseline: found c"),
    "name": (lambda: make_run("b", "SDR"), ["a", "b", "--name", "../x"], "name: found '../x'"),
    "no sample": (lambda: make_run("b", "SDR", samples=1), ["a", "b"], "000_noisy.wav: no such sample; test that"),
    "utterance": (
        lambda: make_run("b", "SDR", samples=1),
        ["a", "b", "--utterances", "40"],
        "040_noisy.wav: no such sample",
    ),
    "metric": (lambda: make_run("b", "SDR"), ["a", "b", "--metrics", "dnsmos"], "metrics: the runs share pesq,"),
    "scores of an earlier checkpoint": (
        lambda: make_run("b", "SDR") and Path("runs/b/best.pt").write_bytes(b"a later epoch"),
        ["a", "b", "--utterances"],
        "runs/b: its best.pt was not tested on demo",
    ),
    "damaged": (
        lambda: make_run("b", "SDR") and Path("runs/b/test/demo/scores.csv").write_text("a,b\n1,2\n"),
        ["a", "b"],
        "runs/b/test/demo/scores.csv: not the scores of a test",
    ),
}


@pytest.mark.parametrize(("spoil", "args", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_compared_is_refused_and_nothing_is_written(workplace, capsys, spoil, args, message):
    make_run("a")
    spoil()
    assert message in refused(capsys, compare, *args)
    assert not (workplace / "results").exists()


def test_a_network_that_has_no_scores_as_it_is_silent_is_one_line(capsys):
    make_run("a")
    make_run("b", "SDR", shift=dict.fromkeys(STANDARD, math.nan))
    error = refused(capsys, compare, "a", "b", "--utterances")
    assert error.startswith("error: no utterance has a score of all signals")


def test_a_run_keeps_its_scores_on_each_set_and_is_compared_on_the_one_that_is_named(capsys):
    rows = {}
    for name, loss in (("a", "MSE"), ("b", "SDR")):
        for number in (1, 2):
            shutil.rmtree(Path("runs") / name / "test" / "demo", ignore_errors=True)
            rows[name, number] = make_run(name, loss, data=number)
            (Path("runs") / name / "test" / "demo").rename(Path("runs") / name / "test" / f"set{number}")
    assert read_run("a", "data/set1").scores["pesq"].tolist() == [row["pesq"] for row in rows["a", 1]]
    assert read_run("a", "set2").scores["pesq"].tolist() == [row["pesq"] for row in rows["a", 2]]
    assert "was not tested on demo (scores: set1, set2)" in refused(capsys, compare, "a", "b", "--utterances")
    assert run(compare, "a", "b", "--utterances", "--data", "set2") == 0


def test_the_comparison_shows_the_tuned_rates():
    make_run("a", "MSE")
    make_run("b", "SI-SNR", learning_rate=1e-3)
    history = {
        rate: pd.DataFrame([{"valid_pesq": 1.5 - rate, "valid_estoi": 0.6, "valid_si_sdr": 5.0}])
        for rate in (1e-4, 1e-3)
    }
    choose_rate("MSE", history).to_csv("tuning.csv", index=False)
    assert run(compare, "a", "b", "--utterances", "--tuning", "tuning.csv") == 0
    assert "| MSE, 0.0001, chosen | **1.50** | **0.600** |" in report()


def test_suspect_pesq_is_named_and_left_out_for_all_signals_if_asked():
    make_run("a", "MSE")
    make_run("b", "SI-SNR+PMSQE", shift={"pesq": 0.1})
    path = Path("runs/b/test/demo/scores.csv")
    rows = pd.read_csv(path)
    wrong = rows.index[(rows["signal"] == "enhanced") & (rows["utterance"] == 7)][0]
    rows.loc[wrong, ["pesq", "pesq_nb", "stoi", "estoi"]] = 4.21, 1.11, 0.28, 0.12
    rows.to_csv(path, index=False)
    means = {}
    for choice in (["--suspect", "keep"], ["--flagged", "leave-out"]):
        assert run(compare, "a", "b", "--utterances", *choice) == 0
        assert "suspect PESQ value" in report()
        assert "SI-SNR+PMSQE, seed 0, seen noise, -5 dB, utterance 7: PESQ 4.21, but narrow-band" in report()
        means[choice[1]] = differences()["SI-SNR+PMSQE", "pesq", "seen"]
    assert "of 48 utterances have no PESQ (wide-band) and are left out." in report()
    assert means["keep"]["difference"] > means["leave-out"]["difference"] + 0.05
    assert means["keep"]["utterances"] > means["leave-out"]["utterances"]


def test_word_errors_are_pooled_over_words_and_the_report_says_of_which():
    for name, loss in (("a", "MSE"), ("b", "SI-SNR")):
        make_run(name, loss)
        path = Path(f"runs/{name}/test/demo/scores.csv")
        rows = pd.read_csv(path)
        long = rows["utterance"] % 2 == 0
        errors = rows["signal"].map({"noisy": 4, "enhanced": 2 if name == "b" else 3})
        rows = rows.assign(words=long.map({True: 12, False: 4}), reference="the transcripts")
        rows.assign(wer=100 * errors.where(long, 1) / rows["words"]).to_csv(path, index=False)
    assert run(compare, "a", "b", "--utterances", "--metrics", "wer") == 0
    assert "| noisy | 31.2 |" in report()  # (4 + 1) of (12 + 4) words; the mean of the rates is 29.2
    assert "| SI-SNR | ▽ 18.8 (-6.2) |".replace("▽", "△") in report()
    assert "Word errors: of all 384 words in the transcripts; at most 100% of an utterance." in report()


def test_word_errors_of_one_seed_are_pooled_over_words_that_another_seed_lacks():
    cells = [("seen", 0.0, 0), ("seen", 0.0, 1)]
    values = pd.DataFrame({"MSE": [10.0, 50.0]}, index=pd.MultiIndex.from_tuples(cells, names=UTTERANCE))
    scores = pd.DataFrame(cells * 2, columns=UTTERANCE).assign(words=[np.nan, np.nan, 30, 10])
    pooled = per_utterance(values, scores, "wer")
    assert pooled["MSE"].mean() == pytest.approx(20)  # (3 + 5) of 40 words


def test_a_loss_whose_own_metric_alone_rises_gets_a_plain_sentence():
    make_run("a", "SI-SNR")
    make_run("b", "SI-SNR+PMSQE", shift={"pesq": 0.1, "estoi": -0.1})
    make_run("c", "SI-SNR+LMS", shift={"pesq": 0.1, "estoi": -0.1})
    make_run("d", "FastEnhancer", shift={"pesq": 0.1, "estoi": -0.1})
    assert run(compare, "a", "b", "c", "d", "--utterances") == 0
    for loss in ("SI-SNR+PMSQE", "FastEnhancer"):
        (own,) = (line for line in report().splitlines() if line.startswith(f"Attention: {loss} against SI-SNR:"))
        assert "which it is trained on" in own
    (other,) = (line for line in report().splitlines() if line.startswith("Attention: SI-SNR+LMS against SI-SNR:"))
    assert "trained on" not in other
