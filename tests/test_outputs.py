"""Another system's outputs, scored as a network's own."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from programs import refused, run

import test
from config import Config
from dataloader.datasets import PackedDataset
from models import build_model, load_model
from tools import compare
from tools.common.run_folder import save_checkpoint, save_config
from tools.demo_corpus.corpus import make_demo_corpus
from tools.scoring.scores import COMPUTED, METRICS, ScorePool, score

TINY = {"kernel_num": (4, 8), "rnn_units": 8}
OPTIONS = ("--data", "set", "--metrics", "stoi", "si_sdr")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small packed set, a run tested on it, and the noisy speech as files."""
    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_demo_corpus(Path("set"), n_train=2, n_valid=1, n_test=1, seconds=1.0)
        config = Config(name="own", data="set", batch_size=1, network=TINY, precision="fp32", device="cpu")
        save_config(config)
        torch.manual_seed(0)
        content = {"config": config.to_dict(), "epoch": 1, "model": build_model(config).state_dict()}
        save_checkpoint(config.run_dir / "best.pt", content)
        assert run(test, "--name", "own", *OPTIONS) == 0
        assert run(test, "--data", "set", "--write_noisy", "noisy") == 0
    return folder


@pytest.fixture
def workplace(finished, here):
    shutil.copytree(finished, here, dirs_exist_ok=True)
    return here


def enhance_files(change=lambda waveform: waveform):
    """What the run's network makes of each noisy file, changed, in enhanced/."""
    model = load_model("runs/own/best.pt")
    for path in Path("noisy").rglob("*.wav"):
        noisy, rate = soundfile.read(path, dtype="float32")
        with torch.inference_mode():
            estimate = model(torch.from_numpy(noisy)[None])[0].numpy()
        output = Path("enhanced") / path.relative_to("noisy")
        output.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(output, change(estimate), rate, subtype="FLOAT")


def scores_of(name):
    scores = pd.read_csv(f"runs/{name}/test/set/scores.csv", dtype=str)
    return scores[scores["signal"] == "enhanced"].reset_index(drop=True)


def test_a_runs_own_outputs_get_the_scores_of_its_test_to_the_last_digit(workplace):
    enhance_files()
    assert run(test, "--outputs", "enhanced", "--name", "system", *OPTIONS) == 0
    columns = ["snr_db", "si_sdr", "gain_db", "polarity"]  # STOI draws noise of 1e-16
    assert scores_of("system")[columns].equals(scores_of("own")[columns])
    stoi = [scores_of(name)["stoi"].astype(float) for name in ("own", "system")]
    np.testing.assert_allclose(*stoi, atol=1e-12)
    assert {path.name for path in Path("runs/own/test/set").iterdir()} == {
        path.name for path in Path("runs/system/test/set").iterdir()
    }
    assert run(compare, "own", "system", "--utterances", "0") == 0
    assert "| system |" in Path("results/comparison/tables.md").read_text()


def test_a_constant_delay_is_taken_out_and_polarity_reported(workplace):
    enhance_files(lambda waveform: -0.5 * np.concatenate([np.zeros(480, np.float32), waveform]))
    assert run(test, "--outputs", "enhanced", "--name", "late", *OPTIONS) == 0
    report = Path("runs/late/test/set/tables.md").read_text()
    assert "delayed by 30 ms (compensated)" in report
    assert "inverted in 14 of 14 utterances" in report
    si_sdr = [scores_of(name)["si_sdr"].astype(float) for name in ("own", "late")]
    np.testing.assert_allclose(*si_sdr, atol=1e-6)


def first(folder):
    return sorted(Path(folder).rglob("*.wav"))[0]


REFUSALS = {
    "missing": (lambda: first("enhanced").unlink(), "enhanced/seen/-10dB/000.wav: no such file (1 missing"),
    "extra": (
        lambda: first("noisy").rename("enhanced/x.wav"),
        "enhanced/x.wav: not in the test grid (0 missing, 1",
    ),
    "shorter": (lambda: soundfile.write(first("enhanced"), np.ones(99), 16000), "found shape (99,) at 16000 Hz"),
    "rate": (
        lambda: soundfile.write(first("enhanced"), np.ones(16000), 8000),
        "at 8000 Hz, expected one channel",
    ),
    "NaN": (
        lambda: soundfile.write(first("enhanced"), np.full(16000, np.nan), 16000, subtype="FLOAT"),
        "000.wav: holds NaN",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), REFUSALS.values(), ids=REFUSALS)
def test_outputs_of_another_grid_are_named_in_one_line(workplace, capsys, spoil, message):
    shutil.copytree("noisy", "enhanced")
    spoil()
    assert message in refused(capsys, test, "--outputs", "enhanced", "--name", "system", *OPTIONS)
    assert not Path("runs/system/test").exists()


def test_slow_scores_may_be_limited_to_the_first_utterances_and_completed_later(workplace, monkeypatch):
    make_demo_corpus(Path("two"), n_train=1, n_valid=1, n_test=2, seconds=1.0)
    monkeypatch.setitem(METRICS, "estoi", dataclasses.replace(METRICS["estoi"], packages=("pystoi",)))
    for opinions, scored in ((1, [0]), (0, [0, 1])):
        options = ("--data", "two", "--metrics", "estoi", "si_sdr", "--opinions", str(opinions))
        assert run(test, "--name", "own", *options) == 0
        scores = pd.read_csv("runs/own/test/two/scores.csv")
        assert scores["si_sdr"].notna().all()
        assert (scores["estoi"].notna() == scores["utterance"].isin(scored)).all()


def test_words_are_counted_of_the_talkers_of_english_alone(workplace, monkeypatch, capsys):
    monkeypatch.setitem(COMPUTED, "text", lambda _: "one two")
    monkeypatch.setattr(ScorePool, "map", lambda _, jobs: itertools.starmap(score, jobs))  # with the line above
    counted = {"wer": 0.0, "words": 2, "reference": "the transcripts"}
    monkeypatch.setattr(test, "word_errors", lambda *_: counted)
    monkeypatch.setitem(METRICS, "wer", dataclasses.replace(METRICS["wer"], packages=("pystoi",)))
    make_demo_corpus(Path("two"), n_train=1, n_valid=1, n_test=2, seconds=1.0)
    english = test.find_drawn("two", PackedDataset("two", "test"))[0]["talker"]
    options = ("--data", "two", "--metrics", "wer", "si_sdr", "--wer_talkers", english)
    expected = "wer_talkers: found nobody, expected talkers of two/test"
    assert expected in refused(capsys, test, "--name", "own", *options, "nobody")
    assert run(test, "--name", "own", *options) == 0
    scores = pd.read_csv("runs/own/test/two/scores.csv")
    assert 0 < scores["words"].notna().sum() < len(scores)
    assert (scores["wer"].notna() == (scores["talker"] == english)).all()
    assert scores["si_sdr"].notna().all()


def test_items_with_the_same_clean_speech_are_numbered_alike(tmp_path):
    np.save(tmp_path / "test.npy", np.zeros((2, 7, 3, 2, 100), np.int16))
    grid = PackedDataset(tmp_path, "test")

    def numbers():
        return [item["clean_id"] for item in test.find_drawn(str(tmp_path), grid)]

    assert numbers() == 14 * [0, 1, 2]
    clips = [{"utterance": n, "speech": "a.wav", "start": start} for n, start in enumerate((0, 100, 0))]
    records = [{"split": "test", "row": row} | clip for row in ("seen", "unseen") for clip in clips]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert numbers() == 14 * [0, 1, 0]


def test_outputs_need_a_name_of_their_own(workplace, capsys):
    for name in ((), ("--name", "own")):
        error = refused(capsys, test, "--outputs", "noisy", *name, *OPTIONS)
        assert "expected a new --name for the system" in error
