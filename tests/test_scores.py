"""tools/scoring/scores.py: scores that mean what they say, and can be compared with published ones."""

import itertools

import numpy as np
import pystoi
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from speech import noise, speech_like

from losses import TERMS
from tools.common.errors import UserError
from tools.scoring.composite import log_likelihood_ratio
from tools.scoring.opinions import word_errors
from tools.scoring.scores import (
    METRICS,
    SETS,
    STANDARD,
    ScorePool,
    choose_metrics,
    cut_at_pauses,
    installed_metrics,
    score,
)


def test_scores_of_speech_itself_are_the_best_there_are():
    clean = speech_like() + 0.003 * noise(2)
    values = score(clean, clean + 1e-6 * noise()).values
    assert values["pesq"] > 4.6
    assert values["pesq_nb"] > 4.5
    assert values["stoi"] > 0.999
    assert values["estoi"] > 0.999
    assert values["si_sdr"] > 80
    assert values["ssnr"] > 34
    assert values["csig"] == values["cbak"] == values["covl"] == 5


def test_scores_fall_with_the_noise():
    clean = speech_like() + 0.003 * noise(2)
    results = [score(clean, clean + level * noise()).values for level in (0.001, 0.01, 0.03)]
    for name in STANDARD:
        best, middle, worst = (METRICS[name].sign * values[name] for values in results)
        assert best > middle > worst, name


# Frozen after all scores had agreed to 1e-6, on eight other pairs of real speech, with pesq, pystoi and the
# implementation of composite.m that published VoiceBank+DEMAND tables are made with.
FROZEN = [
    (
        0.01,
        {"pesq": 2.7500, "pesq_nb": 3.4338, "stoi": 0.9914, "estoi": 0.4820, "si_sdr": 18.2406}
        | {"ssnr": 12.9337, "csig": 4.6856, "cbak": 3.7445, "covl": 3.7683, "gain_db": -0.0105, "polarity": 1},
    ),
    (
        0.03,
        {"pesq": 1.9407, "pesq_nb": 3.0491, "stoi": 0.9266, "estoi": 0.1832, "si_sdr": 8.6772}
        | {"ssnr": 4.1109, "csig": 3.9557, "cbak": 2.7280, "covl": 2.9699, "gain_db": -0.0315, "polarity": 1},
    ),
]


@pytest.mark.parametrize(("level", "expected"), FROZEN)
def test_scores_stay_what_published_ones_are_compared_with(level, expected):
    clean = speech_like(samples=48000) + 0.003 * noise(2, 48000)
    hum = lfilter([0.3], [1, -0.9], noise(samples=48000)).astype(np.float32)
    assert score(clean, clean + level * hum, list(expected)).values == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("samples", [9000, 16001, 48000])
@pytest.mark.parametrize("level", [0.001, 0.03, 1])
def test_stoi_and_estoi_computed_together_are_those_of_pystoi(samples, level):
    clean = speech_like(samples=samples) + 0.003 * noise(2, samples)
    signal = clean + level * noise(samples=samples)
    values = score(clean, signal, ("stoi", "estoi")).values
    for name, extended in (("stoi", False), ("estoi", True)):
        assert values[name] == pytest.approx(pystoi.stoi(clean, signal, 16000, extended), abs=1e-12)


def test_si_sdr_agrees_with_the_loss_of_that_name():
    clean, noisy = speech_like(), speech_like() + 0.05 * noise() + 0.01
    loss = TERMS["SI-SDR"]()(torch.from_numpy(noisy)[None].double(), torch.from_numpy(clean)[None].double())
    assert score(clean, noisy, ("si_sdr",)).values["si_sdr"] == pytest.approx(-loss.item(), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(-40, 20), inverted=st.booleans())
def test_gain_and_polarity_are_seen_where_si_sdr_sees_nothing(gain, inverted):
    clean = speech_like(samples=8000)
    signal = clean + 0.01 * noise(samples=8000)
    changed = (-1 if inverted else 1) * 10 ** (gain / 20) * signal
    names = ("si_sdr", "gain_db", "polarity")
    before, after = (score(clean, s.astype(np.float32), names).values for s in (signal, changed))
    assert after["si_sdr"] == pytest.approx(before["si_sdr"], abs=1e-3)
    assert after["gain_db"] - before["gain_db"] == pytest.approx(gain, abs=1e-3)
    assert after["polarity"] == (-1 if inverted else 1)


@pytest.mark.parametrize(
    ("clean", "signal", "reason"),
    [
        (np.zeros(32000, np.float32), noise(), "silent reference"),
        (speech_like(), np.zeros(32000, np.float32), "silent signal"),
        (speech_like(samples=100), noise(samples=100), ""),
    ],
)
def test_what_cannot_be_scored_is_named_and_not_averaged(clean, signal, reason):
    result = score(clean, signal, STANDARD)
    named = {name for name in STANDARD if name != "si_sdr"} | ({"si_sdr"} if reason else set())
    assert set(result.failed) == named
    assert all(np.isnan(result.values[name]) for name in named)
    assert all(why and reason in why and "\n" not in why for why in result.failed.values())


def test_speech_that_starts_and_ends_in_digital_silence_has_all_scores():
    clean, signal = speech_like(), speech_like() + 0.01 * noise()
    clean[:4000] = signal[:4000] = signal[-4000:] = 0
    assert not score(clean, signal).failed


def test_a_pool_gives_the_same_scores_in_order():
    clean = speech_like()
    pairs = [(clean, clean + level * noise()) for level in np.linspace(0.01, 0.1, 12)]
    with ScorePool(2) as pool:
        results = list(pool.map((*pair, ("stoi", "si_sdr")) for pair in pairs))
    for (reference, signal), result in zip(pairs, results, strict=True):
        expected = score(reference, signal, ("stoi", "si_sdr")).values
        assert result.values == pytest.approx(expected, abs=1e-9)  # the number of threads rounds differently


@pytest.mark.slow
def test_opinions_are_those_of_the_packages_themselves():
    dnsmos, distillmos = (pytest.importorskip(name) for name in ("speechmos.dnsmos", "distillmos"))
    model = distillmos.ConvTransformerSQAModel().eval()
    for samples in (32000, 300_000):  # heard several times over, and in several stretches
        clean = speech_like(samples=samples)
        signal = np.clip(clean + 0.01 * noise(samples=samples), -1, 1)
        theirs = dnsmos.run(signal, 16000)
        expected = {f"dnsmos_{name}": theirs[f"{name}_mos"] for name in ("sig", "bak", "ovrl")}
        with torch.inference_mode():
            expected["distillmos"] = model(torch.from_numpy(signal)[None]).item()
        assert score(clean, signal, (*SETS["dnsmos"], "distillmos")).values == pytest.approx(expected, abs=1e-4)


def test_scores_are_chosen_by_name_or_as_a_set():
    assert choose_metrics(["si_sdr", "pesq"]) == ("pesq", "si_sdr")
    assert choose_metrics(["standard", "pesq"]) == STANDARD
    with pytest.raises(UserError, match="metrics: found psq, expected some of standard, dnsmos, all, pesq"):
        choose_metrics(["psq"])


def test_a_score_whose_package_is_not_installed_is_refused_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert installed_metrics(["standard"]) == STANDARD
    with pytest.raises(UserError, match=r"needs the package speechmos.*pip install -e '\.\[quality\]'"):
        installed_metrics(["dnsmos"])


def test_muted_speech_counts_as_the_worst_frames():
    clean = speech_like()
    signal = clean + 0.05 * noise()
    muted = signal.copy()
    muted[8000:16000] = 0
    assert log_likelihood_ratio(clean, muted) > log_likelihood_ratio(clean, signal) + 0.2


def test_a_long_recording_has_the_pesq_of_its_pieces_cut_at_pauses():
    speech = np.concatenate(
        [np.concatenate([speech_like(n, 64000), np.zeros(8000, np.float32)]) for n in range(16)]
    )
    bounds = cut_at_pauses(speech)
    assert all(320000 <= end - start <= 960000 for start, end in itertools.pairwise(bounds))
    assert all(not speech[bound - 160 : bound + 160].any() for bound in bounds[1:-1])
    signal = speech + 0.02 * noise(samples=speech.size)
    short = score(speech[: bounds[1]], signal[: bounds[1]], ("pesq",)).values["pesq"]
    assert score(speech, signal, ("pesq",)).values["pesq"] == pytest.approx(short, abs=0.3)


def test_word_errors_are_counted_without_case_and_punctuation_and_only_among_words():
    pytest.importorskip("jiwer")
    assert word_errors("My cup... coffee!", None, "my cup of coffee") == {
        "wer": 25.0,
        "words": 4,
        "reference": "what Whisper tiny.en hears in the clean speech",
    }
    known = word_errors("it's a cup", "It’s a cup of coffee.", "")
    assert (known["wer"], known["words"], known["reference"]) == (40.0, 5, "the transcripts")
    assert word_errors("la " * 90, "la", "")["wer"] == 100  # a recogniser that repeats itself
    assert np.isnan(word_errors("anything", None, "")["wer"])


def test_speech_that_is_muted_has_no_words(monkeypatch):
    monkeypatch.setattr("tools.scoring.opinions._transcribe", lambda _: "thank you")
    assert score(speech_like(), np.zeros(32000, np.float32), ("text",)).values == {"text": ""}
    assert score(speech_like(), noise(), ("text",)).values == {"text": "thank you"}
