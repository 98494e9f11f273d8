"""tools.score: anyone's recordings get the scores that test.py gives, and what is wrong with them is said."""

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
from programs import refused, run
from speech import noise, speech_like

from tools import publish
from tools import score as command
from tools.common.audio import find_delay
from tools.common.errors import UserError
from tools.scoring.recordings import read_transcripts
from tools.scoring.scores import STANDARD, score
from tools.scoring.suspect import USED, find_suspect

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def workplace(here):
    """Three utterances as clean/a.wav … and enhanced/a.flac …, and no processes to start."""
    for number, name in enumerate(("a", "b", "c")):
        clean = speech_like(number) + 0.003 * noise(2)
        write("clean", f"{name}.wav", clean)
        write("enhanced", f"{name}.flac", clean + 0.01 * noise(number))
    return here


def write(folder, name, waveform, rate=16000):
    Path(folder).mkdir(exist_ok=True)
    kind = {"subtype": "FLOAT"} if name.endswith(".wav") else {}
    soundfile.write(f"{folder}/{name}", waveform, rate, **kind)


def results(name="scores"):
    rows = pd.read_csv(f"results/{name}/scores.csv").to_dict("records")
    return {(row["file"], row["signal"]): row for row in rows}


def call(*args):
    return run(command, *args, "--processes", "1")


def test_folders_get_the_scores_of_their_signals_and_a_table_of_means(capsys):
    for name in ("a", "b", "c"):
        write("noisy", f"{name}.wav", soundfile.read(f"clean/{name}.wav")[0] + 0.03 * noise(ord(name)))
    assert call("clean", "enhanced", "noisy") == 0
    found = results()
    assert set(found) == {(name, signal) for name in ("a", "b", "c") for signal in ("enhanced", "noisy")}
    pair = (soundfile.read(path, dtype="float32")[0] for path in ("clean/b.wav", "enhanced/b.flac"))
    expected = score(*pair).values
    for name in STANDARD:
        assert float(found["b", "enhanced"][name]) == pytest.approx(expected[name], abs=1e-6), name
    report = Path("results/scores/tables.md").read_text()
    assert "0 inverted, 0 clipped" in report
    assert "enhanced − noisy" in capsys.readouterr().out
    values = np.array([float(found[name, "enhanced"]["pesq"]) for name in ("a", "b", "c")])
    assert f"{values.mean():.2f} ± {values.std(ddof=1):.2f} [" in report
    assert "| | noisy | enhanced | enhanced − noisy | files |" in report


def test_single_files_and_a_list_of_pairs_are_scored_too():
    assert call("clean/a.wav", "enhanced/a.flac", "--metrics", "stoi", "--name", "one") == 0
    Path("pairs.csv").write_text("clean,enhanced\nclean/a.wav,enhanced/a.flac\nclean/b.wav,enhanced/b.flac\n")
    assert call("pairs.csv", "--metrics", "stoi", "--name", "list") == 0
    (one,), listed = results("one").values(), results("list")
    assert len(listed) == 2
    assert listed["enhanced/a.flac", "enhanced"]["stoi"] == one["stoi"]


@pytest.mark.parametrize("samples", [-1600, -1, 1, 800, 1600])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_delay_of_up_to_a_tenth_of_a_second_is_found_whatever_the_polarity(samples, sign):
    clean = speech_like(3) * np.linspace(0.3, 1, 32000)
    assert find_delay(clean, sign * np.roll(clean, samples) + 0.003 * noise()) == samples
    assert find_delay(clean, clean + 0.1 * noise()) == 0


def test_a_longer_delay_is_no_alignment_instead_of_an_invented_delay(capsys):
    write("late", "a.wav", np.pad(soundfile.read("clean/a.wav")[0], (2400, 0))[:-2400])
    assert call("clean/a.wav", "late/a.wav", "--metrics", "si_sdr") == 0
    assert "no alignment found within 100 ms in 1 (a)" in " ".join(capsys.readouterr().out.split())
    assert np.isnan(results()["a", "enhanced"]["delay_ms"])


def test_accents_of_mac_and_linux_are_one_name():
    for number, form in enumerate(("NFC", "NFD")):
        write(form, unicodedata.normalize(form, "café.wav"), speech_like() + 0.01 * number * noise())
    assert call("NFC", "NFD", "--metrics", "si_sdr") == 0
    assert ("café", "enhanced") in results()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_list_from_a_spreadsheet_is_read(separator):
    rows = [("clean", "enhanced"), ("clean\\a.wav", "enhanced\\a.flac")]
    Path("pairs.csv").write_text("\n".join(separator.join(row) for row in rows), encoding="utf-8-sig")
    assert call("pairs.csv", "--metrics", "si_sdr") == 0
    assert len(results()) == 1


def test_transcripts_are_read_and_those_of_other_files_named_in_one_line():
    path = Path("texts.csv")
    path.write_text("file;text\nA\\a.wav;my, cup\nb;\n")
    assert read_transcripts(path, {"A/a": 1, "b.wav": 2}) == {1: "my, cup", 2: ""}
    with pytest.raises(UserError, match=r"csv: b is not among the files to score \(1 unknown, 1 without text"):
        read_transcripts(path, {"A/a": 1, "c": 2})
    with pytest.raises(UserError, match=r"texts.csv: no text for c \(0 unknown, 1 without text\)"):
        read_transcripts(path, {"A/a": 1, "b": 2, "c": 3})


def test_a_delay_is_reported_and_taken_out():
    for number, name in enumerate(("a", "b", "c")):
        clean = 0.1 * noise(number + 10)
        write("clean", f"{name}.wav", clean)
        write("enhanced", f"{name}.flac", clean + 0.01 * noise(number))
        write("late", f"{name}.wav", -np.pad(soundfile.read(f"enhanced/{name}.flac")[0], (480, 0))[:-480])
    for options in ((), ("--keep_delay", "--name", "left")):
        assert call("clean", "late", "--metrics", "si_sdr", *options) == 0
    report = Path("results/scores/tables.md").read_text()
    assert "3 inverted, 3 delayed by 30 to 30 ms (compensated)" in report
    assert call("clean", "enhanced", "--metrics", "si_sdr", "--name", "prompt") == 0
    prompt, aligned, late = (
        float(results(name)["a", "enhanced"]["si_sdr"]) for name in ("prompt", "scores", "left")
    )
    assert aligned == pytest.approx(prompt, abs=0.1)
    assert late < 0


def test_other_rates_are_scored_but_narrow_band_files_have_no_wide_band_pesq():
    for rate, name in ((48000, "a"), (44100, "b"), (8000, "c")):
        waveform = soundfile.read(f"enhanced/{name}.flac")[0]
        write("rates", f"{name}.wav", soxr.resample(waveform, 16000, rate), rate)
    assert call("clean", "rates") == 0
    found = results()
    assert not any(np.isnan(found[name, "enhanced"]["pesq"]) for name in ("a", "b"))
    missing = {name for name in STANDARD if np.isnan(found["c", "enhanced"][name])}
    assert missing == {"pesq", "csig", "cbak", "covl"}
    assert "c, enhanced: pesq: recorded at 8000 Hz, needs 16000" in Path("results/scores/tables.md").read_text()


BAD_FILES = {
    "silent": (lambda: write("enhanced", "b.flac", np.zeros(32000)), "enhanced/b.flac: silent"),
    "NaN": (
        lambda: (Path("enhanced/b.flac").unlink(), write("enhanced", "b.wav", np.full(32000, np.nan))),
        "enhanced/b.wav: holds NaN or infinity",
    ),
    "shorter": (
        lambda: write("enhanced", "b.flac", noise()[:29000] / 9),
        "enhanced/b.flac: lasts 1.81 s, the clean",
    ),
    "no sound file": (lambda: Path("enhanced/b.flac").write_text("x"), "enhanced/b.flac: not readable as audio"),
    "no partner": (lambda: Path("enhanced/b.flac").unlink(), "clean/b.wav: no file of that name"),
    "silent clean": (lambda: write("clean", "b.wav", np.zeros(32000)), "clean/b.wav: silent"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_among_good_ones_is_named_at_the_end_with_exit_code_1(capsys, spoil, message):
    spoil()
    assert call("clean", "enhanced", "--metrics", "stoi") == 1
    assert message in capsys.readouterr().err
    assert set(results()) == {("a", "enhanced"), ("c", "enhanced")}


REFUSALS = {
    "no pairs": (lambda: None, ["clean", "."], "no file has the name of one in clean"),
    "twice": (
        lambda: write("clean", "a.flac", noise() / 9),
        ["clean", "enhanced"],
        "clean/a.wav: a.flac has the same",
    ),
    "no folder": (lambda: None, ["clean", "nothing"], "nothing: no such folder"),
    "empty": (lambda: Path("empty").mkdir(), ["clean", "empty"], "(found a and no sound files)"),
    "one": (lambda: None, ["clean"], "paths: found 1, expected CLEAN ENHANCED"),
    "mixed": (
        lambda: None,
        ["clean", "enhanced/a.flac"],
        "enhanced/a.flac: no such folder",
    ),
    "no columns": (
        lambda: Path("a.csv").write_text("x,y\n1,2\n"),
        ["a.csv"],
        "a.csv: found the columns x, y, expected clean, enhanced",
    ),
    "empty cell": (
        lambda: Path("a.csv").write_text("clean,enhanced\na,b\nc,\n"),
        ["a.csv"],
        "a.csv: found an empty cell",
    ),
    "metrics": (lambda: None, ["clean", "enhanced", "--metrics", "mos"], "metrics: found mos, expected some of"),
}


@pytest.mark.parametrize(("prepare", "args", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_scored_at_all_is_refused_in_one_line(capsys, workplace, prepare, args, message):
    prepare()
    assert message in refused(capsys, command, *args, "--processes", "1")
    assert not (workplace / "results").exists()


# -- Suspect PESQ --


def test_wrong_values_that_pesq_gave_to_real_networks_are_suspect_and_few_others():
    # speech at -10 and -5 dB of an early comparison, of which hardly anything was left
    wrong = pd.DataFrame([(4.2117, 1.1148, 0.2755, 0.1183), (3.8751, 1.7016, 0.2709, 0.1973)], columns=USED)
    assert (find_suspect(wrong) != "").all()
    scores = publish.read_packed(ROOT / "results/published/large_dccrn/scores.csv.xz")
    assert len(scores) > 4000
    assert (find_suspect(scores) != "").sum() <= 2


def test_less_than_one_real_mixture_in_a_hundred_is_suspect():
    # mixtures of LibriSpeech test-other with noise of 28 types, -15 to 30 dB
    mixtures = np.load(Path(__file__).with_name("reference_mixture_scores.npz"))["scores"]
    assert len(mixtures) == 500
    assert (find_suspect(pd.DataFrame(mixtures, columns=USED)) != "").mean() < 0.01


def test_suspect_files_are_listed_and_left_out_by_choice(monkeypatch):
    monkeypatch.setattr("tools.scoring.suspect.highest_pesq", lambda scores: 2.0)
    for options in ((), ("--suspect", "leave-out"), ("--flagged", "leave-out")):
        assert call("clean", "enhanced", *options) == 0
        report = Path("results/scores/tables.md").read_text()
        (line,) = (line for line in report.splitlines() if line.startswith("| PESQ (wide-band)"))
        assert "3 suspect PESQ values (contradict STOI, narrow-band PESQ): a, enhanced: PESQ" in report
        assert line.endswith("| 0 |" if options else "| 3 |")


def test_an_interval_of_a_bounded_score_stays_in_its_bounds():
    text = command.mean_text(pd.Series([0.6, 0.999]), 3, -1, 1)
    assert text.startswith("0.799 ± 0.282 [")
    assert text.endswith(", 1.000]")
