"""A listening test that webMUSHRA can run."""

from pathlib import Path

import numpy as np
import soundfile
import yaml
from made_runs import make_run
from programs import run
from speech import noise

from tools import compare
from tools.reports.page import low_anchor

LABELS = ("MSE", "SI-SNR", "SI-SNR+LMS")


def test_a_webmushra_test_has_a_hidden_reference_an_anchor_and_all_its_files(here):
    for seed, loss in enumerate(LABELS):
        make_run(loss, loss, seed, samples=1)
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
