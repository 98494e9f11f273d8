"""Votes that are pooled fairly, and listening tests that other programs can run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from made_runs import make_run
from matplotlib.figure import Figure
from programs import run
from speech import noise

from tools import compare
from tools.reports import compare_runs
from tools.reports.listening_tests import low_anchor
from tools.reports.votes import Ballot, Vote, preference_rows, strengths

LABELS = ("MSE", "SI-SNR", "SI-SNR+LMS")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare_runs, "score_curves", lambda *_: Figure((1, 1)))
    for seed, loss in enumerate(LABELS):
        make_run(loss, loss, seed, samples=1)


def ballot(path, preferred=("MSE",), **changes):
    (page,) = Path("results").glob("*/index.html")
    comparison = page.read_text().split('data-comparison="')[1].split('"')[0]
    votes = [
        {"noise_type": "seen", "snr_db": -5.0, "utterance": 0, "preferred": name, "among": list(LABELS)}
        for name in preferred
    ]
    content = {"format": 1, "comparison": comparison, "listener": path, "votes": votes} | changes
    Path(path).write_text(json.dumps(content))
    return path


def test_the_votes_of_many_listeners_are_pooled_into_one_ranking():
    assert run(compare, *LABELS) == 0
    files = [ballot(f"{n}.json", ["SI-SNR+LMS"] * 3 + ["SI-SNR"]) for n in range(5)]
    assert run(compare, *LABELS, "--votes", *files) == 0
    report = Path("results/comparison/tables.md").read_text()
    assert "### 20 blind votes of 5 listeners" in report
    assert "| SI-SNR+LMS | 15 of 20 | 7" in report
    assert "| MSE | 0 of 20 | " in report
    assert "15 of 20" in Path("results/comparison/index.html").read_text()


REFUSALS = {
    "another comparison": (
        lambda: ballot("a.json", comparison="0123"),
        "a.json: holds votes on another comparison",
    ),
    "no votes": (lambda: Path("a.json").write_text("{}"), "a.json: cannot be used (Object missing required"),
    "no JSON": (lambda: Path("a.json").write_text("votes"), "a.json: cannot be used (Expecting value"),
    "no comparison": (
        lambda: Path("a.json").write_text('{"format": 1, "listener": "x", "votes": []}'),
        "missing required field `comparison`); save votes with the page's button",
    ),
    "later format": (
        lambda: ballot("a.json", format=2),
        "a.json: cannot be used (Invalid enum value 2 - at `$.format`",
    ),
    "unknown loss": (lambda: ballot("a.json", ["SDR"]), "a.json: found a vote for SDR among MSE, SI-SNR"),
    "missing": (lambda: None, "a.json: No such file"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_votes_that_do_not_belong_to_the_comparison_are_refused_in_one_line(case, capsys):
    assert run(compare, *LABELS) == 0
    prepare, message = REFUSALS[case]
    prepare()
    assert run(compare, *LABELS, "--votes", "a.json") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert message in error[0]


def test_a_listener_counts_once(capsys):
    assert run(compare, *LABELS) == 0
    files = ballot("a.json", listener="x"), ballot("b.json", listener="x")
    assert run(compare, *LABELS, "--votes", *files) == 2
    assert "b.json: is by the listener of a.json" in capsys.readouterr().err


def test_strengths_are_bradley_and_terrys():
    # With two signals, the strengths are the shares of the votes; half a vote each way hardly moves them.
    pairs = [Vote("a", ("a", "b"))] * 300 + [Vote("b", ("a", "b"))] * 100
    np.testing.assert_allclose(strengths(pairs, ("a", "b")), (0.75, 0.25), atol=0.005)
    # Pairs that follow from strengths 4, 2, 1 give them back, though each pair was judged another number of times.
    true = {"a": 4, "b": 2, "c": 1}
    votes = []
    for one, other, count in (("a", "b", 6000), ("b", "c", 3000), ("a", "c", 5000)):
        share = round(count * true[one] / (true[one] + true[other]))
        votes += [Vote(one, (one, other))] * share + [Vote(other, (one, other))] * (count - share)
    np.testing.assert_allclose(strengths(votes, tuple("abc")), np.array([4, 2, 1]) / 7, atol=0.003)


def test_intervals_of_few_votes_are_wide_and_of_many_narrow():
    def width(count):
        ballots = [Ballot(1, str(n), "", [Vote("ab"[n % 2], ("a", "b"))]) for n in range(count)]
        low, high = preference_rows(ballots, ("a", "b"))["a"][1].split("[")[1].strip("]").split(", ")
        return float(high) - float(low)

    assert width(6) > 50
    assert 5 < width(400) < 15


def test_a_webmushra_test_has_a_hidden_reference_an_anchor_and_all_its_files():
    assert run(compare, *LABELS, "--listening_test", "--name", "ab") == 0
    folder = Path("results/ab/webmushra")
    config = yaml.safe_load((folder / "configs/ab.yaml").read_text())
    assert {"testname", "testId", "bufferSize", "stopOnErrors", "remoteService", "pages"} <= set(config)
    welcome, volume, trials, finish = config["pages"]
    assert [page["type"] for page in (welcome, volume, finish)] == ["generic", "volume", "finish"]
    assert trials[0] == "random"
    assert len(trials) == 1 + 4
    lengths = set()
    for trial in trials[1:]:
        assert trial["type"] == "mushra"
        assert trial["showConditionNames"] is False
        assert set(trial["stimuli"]) == {"noisy", *LABELS, "anchor35"}
        for file in (trial["reference"], *trial["stimuli"].values()):
            waveform, rate = soundfile.read(folder / file)
            assert rate == 48000
            lengths.add(len(waveform))
    assert lengths == {48000}


def test_the_low_anchor_passes_up_to_3500_hz_and_stops_from_4000_hz():
    waveform = noise(samples=160_000)
    spectra = [np.abs(np.fft.rfft(signal)) for signal in (waveform, low_anchor(waveform))]
    frequency = np.fft.rfftfreq(waveform.size, 1 / 16000)

    def level(low, high):
        inside = (low <= frequency) & (frequency < high)
        return 10 * np.log10((spectra[1][inside] ** 2).sum() / (spectra[0][inside] ** 2).sum())

    assert abs(level(50, 3490)) < 0.1
    assert level(4010, 4500) < -40
    assert level(4500, 8000) < -50


def test_the_clips_for_p808_are_listed_by_the_address_they_will_have():
    options = ("--listening_test", "--clips_address", "https://me.example/x/")
    assert run(compare, *LABELS, *options) == 0
    folder = Path("results/comparison/p808")
    with (folder / "rating_clips.csv").open(newline="") as file:
        addresses = [row["rating_clips"] for row in csv.DictReader(file)]
    assert len(addresses) == 4 * (len(LABELS) + 2)
    assert all(address.startswith("https://me.example/x/") for address in addresses)
    with (folder / "clips.csv").open(newline="") as file:
        clips = {row["clip"]: row["condition"] for row in csv.DictReader(file)}
    assert {address.rpartition("/")[2] for address in addresses} == set(clips)
    assert set(clips.values()) == {"noisy", "clean", *LABELS}
    assert all((folder / "clips" / clip).is_file() for clip in clips)
