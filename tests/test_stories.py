"""train.py and test.py, run whole: what a user types, and what then lies on the disk."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from programs import refused, run
from scipy.io import wavfile
from trainings import history_of

import test
import train
from config import Config
from models import load_model
from tools.common.run_folder import best_epochs
from tools.demo_corpus import corpus as demo_corpus
from tools.demo_corpus.corpus import make_demo_corpus

TINY = ["--model", "DCCRN", "--kernel_num", "4", "8", "16", "--rnn_units", "8", "--batch_size", "4"]
TINY += ["--device", "cpu", "--precision", "fp32"]
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "demo"
    make_demo_corpus(folder, n_train=12, n_valid=4, n_test=1, seconds=1.0)
    return folder


@pytest.fixture
def workplace(corpus, here):
    """An empty working directory with the demo corpus in its place."""
    shutil.copytree(corpus, here / "data" / "demo")
    return here


PAPERS_LOSSES = [f"{base}{more}" for more in ("", "+LMS", "+PMSQE") for base in ("MSE", "SDR", "SI-SNR", "SI-SDR")]


@pytest.mark.parametrize("loss", [*PAPERS_LOSSES, "wSDR", "SI-SNR+0.3*MR-STFT"])
def test_every_loss_trains_two_epochs_and_falls(workplace, loss):
    assert (
        run(train, *TINY, "--loss", loss, "--epochs", "2", "--learning_rate", "1e-3", "--valid_scores", "0") == 0
    )
    run_dir = workplace / "runs" / f"DCCRN_{loss.replace('*', 'x')}"
    history = history_of(run_dir)
    assert float(history[1]["train_loss"]) < float(history[0]["train_loss"])
    assert all(
        f"train_{part}" in history[0] and f"valid_{part}" in history[0]
        for part in loss.replace("0.3*", "").split("+")
    )
    model = load_model(run_dir / "best.pt")
    assert all(torch.isfinite(weight).all() for weight in model.state_dict().values())


def test_train_then_test_gives_tables_scores_and_samples(workplace, capsys):
    assert run(train, *TINY, "--name", "a", "--loss", "SI-SNR+LMS", "--epochs", "2") == 0
    printed = capsys.readouterr().out
    assert all(row in printed for row in ("\n1/2", "\n2/2", "next: python test.py --name a"))
    assert "2/2" in (workplace / "runs" / "a" / "log.txt").read_text()
    run_dir = workplace / "runs" / "a"
    files = {"config.json", "history.csv", "last.pt", "best.pt", "tensorboard", "environment.json", "log.txt"}
    assert {path.name for path in run_dir.iterdir()} == files
    assert run(test, "--name", "a", "--samples", "1") == 0
    report = (run_dir / "test" / "demo" / "tables.md").read_text()
    printed = capsys.readouterr().out
    heads = "| seen | -10 dB | -5 dB | 0 dB | 5 dB | 10 dB | 15 dB | 20 dB | average |"
    for title in ("PESQ (wide-band)", "STOI", "ESTOI", "SI-SDR (dB)"):
        assert f"### {title}, seen\n\n{heads}" in report
        assert f"{title}, seen" in printed
    assert "inverted in 0 of 14 utterances" in report
    files = "tables.tex", "index.html", "audio", "differences.csv", "curves.pdf", "spectrograms.png"
    assert all((run_dir / "test" / "demo" / file).exists() for file in files)
    rows = pd.read_csv(run_dir / "test" / "demo" / "scores.csv")
    assert len(rows) == 2 * 7 * 1 * 2
    noisy = rows[rows["signal"] == "noisy"]  # whose scores know the SNR: rows and items are not mixed up
    np.testing.assert_allclose(noisy["si_sdr"], noisy["snr_db"], rtol=0, atol=1, equal_nan=False)

    folder = workplace / "samples" / "a" / "demo" / "unseen" / "-5dB"
    assert {path.name for path in folder.iterdir()} == {"000_noisy.wav", "000_enhanced.wav", "000_clean.wav"}
    rate, clean = wavfile.read(folder / "000_clean.wav")
    _, enhanced = wavfile.read(folder / "000_enhanced.wav")
    assert (rate, clean.size, enhanced.size) == (16000, 16000, 16000)
    assert np.corrcoef(clean, enhanced)[0, 1] > 0.3  # not the inverted solution
    np.testing.assert_array_equal(clean, np.load(workplace / "data/demo/test.npy")[1, 1, 0, 1])


def test_weights_that_move_do_not_decide_which_epoch_is_best():
    early = {"valid_SI-SNR": -9.0, "valid_LMS": 2.0, "weight_SI-SNR": 0.9, "weight_LMS": 0.1}
    late = {"valid_SI-SNR": -1.0, "valid_LMS": 1.0, "weight_SI-SNR": 0.001, "weight_LMS": 0.999}
    assert best_epochs([early, late], "loss") == [1, 2]  # under late weights, LMS decides
    assert best_epochs([early, late | {"valid_LMS": 2.1}], "loss") == [1]
    assert best_epochs([late, early], "loss") == [1, 2]  # under early weights, SI-SNR does


@pytest.mark.slow
def test_interrupted_scoring_goes_on_and_noisy_scores_are_kept_beside_the_data(workplace, monkeypatch):
    assert run(train, *TINY, "--name", "a", "--epochs", "1", "--valid_scores", "0") == 0
    enhanced, scored = test.enhance_all, []

    def count(model, loader):
        for number, *waveforms in enhanced(model, loader):
            if len(scored) == 8 and stop:
                raise KeyboardInterrupt
            scored.append(number)
            yield number, *waveforms

    monkeypatch.setattr(test, "enhance_all", count)
    few = ("--name", "a", "--samples", "0", "--show")
    stop = True
    assert run(test, *few) == 130
    stop = False
    done = len(Path("runs/a/test/demo/enhanced_scores.jsonl").read_text().splitlines()) - 1
    assert 0 < done <= 8
    scored.clear()
    assert run(test, *few) == 0
    assert scored == list(range(done, 14))
    first = Path("runs/a/test/demo/scores.csv").read_text()
    scored.clear()
    assert run(test, *few) == 0
    assert scored == []
    assert Path("runs/a/test/demo/scores.csv").read_text() == first

    damage("data/demo/test.npy", lambda grid: np.roll(grid, 1, axis=0))
    assert run(test, *few) == 0
    assert scored == list(range(14))
    assert Path("runs/a/test/demo/scores.csv").read_text() != first


def test_a_silent_reference_is_counted_and_named_in_the_report(workplace):
    grid = np.load("data/demo/test.npy")
    grid[0, 3, 0, 1] = 0
    np.save("data/demo/test.npy", grid)
    assert run(train, *TINY, "--name", "a", "--epochs", "1", "--valid_scores", "0") == 0
    assert run(test, "--name", "a") == 0
    report = Path("runs/a/test/demo/tables.md").read_text()
    assert "2 of 28 signals lack a score: " in report
    assert "enhanced, seed 0, seen noise, 5 dB, utterance 0: pesq: silent reference" in report
    assert "1 of 14 utterances have no PESQ" in report


def damage(path, change):
    array = np.load(path)
    np.save(path, change(array))


def with_nan(array):
    array = array.astype(np.float32) / 32768
    array[2, 1, 7] = np.nan
    return array


BAD_TRAINING = {
    "nan, loaded by a worker": (
        lambda: damage("data/demo/train.npy", with_nan),
        ["--workers", "1"],
        "item [2] holds NaN or infinity",
    ),
    "device": (lambda: None, ["--device", "cuda:99"], "device: found cuda:99"),
}


@pytest.mark.parametrize(("spoil", "args", "message"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_bad_input_to_train_is_one_line_and_leaves_no_checkpoint(workplace, capsys, spoil, args, message):
    spoil()
    assert message in refused(capsys, train, *TINY, "--name", "a", "--epochs", "1", *args)
    assert not list(workplace.glob("runs/**/*.pt"))


def test_bad_input_to_test_is_one_line_and_leaves_no_tables(workplace, capsys):
    assert run(train, *TINY, "--name", "a", "--epochs", "1", "--valid_scores", "0") == 0
    for args, message in (
        (["--mask", "C"], "mask: found C, but runs/a was trained with E"),
        (["--show", "7"], "show: found 7, but data/demo/test.npy has 1 utterances"),
        (["--data", "data/none"], "data/none/test.npy: no such file"),
    ):
        assert message in refused(capsys, test, "--name", "a", *args)
        assert not Path("runs/a/test").exists(), message


@pytest.mark.slow
def test_the_demo_corpus_makes_itself_once(here, monkeypatch):
    calls = []

    def small(folder):
        calls.append(folder)
        make_demo_corpus(folder, n_train=4, n_valid=1, n_test=1, seconds=0.5)

    monkeypatch.setattr(demo_corpus, "make_demo_corpus", small)
    for epochs in ("1", "2"):
        assert run(train, *TINY, "--name", "a", "--epochs", epochs, "--valid_scores", "0") == 0
    assert calls == [Path("data/demo")]


@pytest.mark.slow
def test_the_programs_run_from_the_shell(workplace):
    def shell(*args):
        return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=120)

    trained = shell(str(REPOSITORY / "train.py"), *TINY, "--data", "data/demo", "--name", "a", "--epochs", "1")
    assert (trained.returncode, trained.stderr) == (0, "")
    wrong = shell(str(REPOSITORY / "test.py"), "--name", "b")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: runs/b/config.json: no such run")
    assert Config.from_dict(json.loads(Path("runs/a/config.json").read_text())).run_name == "a"
