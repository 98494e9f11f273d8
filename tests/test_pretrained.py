"""The network that comes with the package: it must help, and do no harm."""

import numpy as np
import pytest
import torch

from models import PRETRAINED, load_pretrained
from tools.demo_corpus.corpus import make_demo_corpus
from tools.inference.graph_stream import PACKAGED, GraphStream, packaged_graph
from tools.scoring.scores import score


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Synthetic speech in synthetic noise, [noise type, dB, 6, 2, samples], none of which it was trained on."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo_corpus(folder, n_train=1, n_valid=1, n_test=6)
    return np.load(folder / "test.npy") / np.float32(32768)


def enhance(noisy):
    with torch.inference_mode():
        return load_pretrained()(torch.from_numpy(noisy)[None])[0].numpy()


@pytest.mark.parametrize("snr_db", [0, 5, 10])
def test_it_raises_quality_and_keeps_the_polarity_in_seen_and_unseen_noise(grid, snr_db):
    names = ("pesq", "si_sdr", "polarity")
    for cell in grid[:, [-10, -5, 0, 5, 10, 15, 20].index(snr_db)]:
        before, after = (
            np.array([list(score(clean, make(noisy), names).values.values()) for noisy, clean in cell])
            for make in (np.asarray, enhance)
        )
        pesq, si_sdr, _ = (after - before).mean(0)
        assert pesq > 0.1
        assert si_sdr > 2
        assert (after[:, 2] == 1).all()


def test_clean_speech_passes_and_silence_stays_silent(grid):
    passed = [score(clean, enhance(clean), ("pesq", "stoi", "si_sdr")).values for clean in grid[0, 0, :, 1]]
    assert np.mean([values["pesq"] for values in passed]) > 4
    assert np.mean([values["stoi"] for values in passed]) > 0.97
    assert np.mean([values["si_sdr"] for values in passed]) > 23
    assert min(values["si_sdr"] for values in passed) > 12
    assert np.abs(enhance(np.zeros(16000, np.float32))).max() < 1e-4


def test_its_graph_computes_what_its_checkpoint_does(grid):
    """After a new checkpoint: python -m tools.export pretrained models/pretrained/enhancer.onnx --streaming."""
    noisy = grid[0, 3, :2, 0]
    stream = GraphStream(packaged_graph(), 2)
    estimate = np.concatenate([stream.push(noisy), stream.flush()], 1)
    np.testing.assert_allclose(estimate, [enhance(signal) for signal in noisy], rtol=0, atol=1e-5)


def test_it_is_small_and_comes_with_its_card_and_the_names_of_those_whose_recordings_it_learned_from():
    assert PRETRAINED.stat().st_size + PACKAGED.stat().st_size < 2e6
    folder = PRETRAINED.parent
    assert "attribution.csv" in (folder / "README.md").read_text(encoding="utf-8")
    assert len((folder / "attribution.csv").read_text(encoding="utf-8").splitlines()) > 200
