"""The network that comes with the package: it must help, and do no harm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import checkpoint_path, load_pretrained
from tools.demo_corpus.corpus import TEST_SNR_DB, make_demo_corpus
from tools.scoring.scores import score


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Synthetic speech in synthetic noise, [noise type, dB, 2, samples], none of which it was trained on."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo_corpus(folder, n_train=1, n_valid=1, n_test=1)
    return np.load(folder / "test.npy")[:, :, 0] / np.float32(32768)


def enhance(noisy):
    with torch.inference_mode():
        return load_pretrained()(torch.from_numpy(noisy)[None])[0].numpy()


@pytest.mark.parametrize("snr_db", [0, 5, 10])
def test_it_raises_quality_and_keeps_the_polarity_in_seen_and_unseen_noise(grid, snr_db):
    for noisy, clean in grid[:, TEST_SNR_DB.index(snr_db)]:
        names = ("pesq", "si_sdr", "polarity")
        before, after = (score(clean, signal, names).values for signal in (noisy, enhance(noisy)))
        assert after["pesq"] > before["pesq"]
        assert after["si_sdr"] > before["si_sdr"] + 1
        assert after["polarity"] == 1


def test_clean_speech_passes_and_silence_stays_silent(grid):
    clean = grid[0, 0, 1]
    values = score(clean, enhance(clean), ("stoi", "si_sdr")).values
    assert values["si_sdr"] > 15
    assert values["stoi"] > 0.98
    assert np.abs(enhance(np.zeros(16000, np.float32))).max() < 1e-4


def test_it_is_small_and_comes_with_its_card_and_the_names_of_those_whose_recordings_it_learned_from():
    assert checkpoint_path("pretrained").stat().st_size < 4e6
    folder = checkpoint_path("pretrained").parent
    assert "attribution.csv" in (folder / "README.md").read_text(encoding="utf-8")
    assert len((folder / "attribution.csv").read_text(encoding="utf-8").splitlines()) > 200
