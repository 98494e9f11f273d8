"""Networks that hear a whole recording at once enhance long ones in chunks."""

import numpy as np
import pytest
import soundfile
import torch
from networks import offline, save_checkpoint, small_settings, trained_like
from programs import refused, run

from models import load_model
from models.streaming.chunks import ChunkEnhancer
from tools import enhance, export


@pytest.mark.parametrize("name", ["DCUNET", "FullSubNet"])
def test_a_network_that_cannot_stream_enhances_files_and_says_in_one_line_that_it_does_nothing_live(
    name, tmp_path, capsys
):
    checkpoint = save_checkpoint(trained_like(name), tmp_path / "g.pt", **small_settings(name))
    noisy = 0.05 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noisy, 16000, subtype="FLOAT")
    assert run(enhance, checkpoint, tmp_path / "a.wav", "-o", tmp_path / "b.wav") == 0
    out = soundfile.read(tmp_path / "b.wav", dtype="float32")[0]
    np.testing.assert_allclose(out, offline(load_model(checkpoint), noisy), rtol=0, atol=1e-6)
    for command in (
        (enhance, checkpoint, "--live"),
        (enhance, checkpoint, "-"),
        (enhance, checkpoint, tmp_path / "a.wav", "--stream", "--overwrite"),
        (export, checkpoint, tmp_path / "a.onnx"),
        (export, checkpoint, tmp_path / "a.onnx", "--streaming"),
    ):
        expected = "needs the whole recording and cannot enhance block by block; DCCRN, CRN, GTCRN and"
        assert expected in refused(capsys, *command)


class Counting(torch.nn.Module):
    """The number of the call, from 0, for every sample."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, noisy):
        self.calls.append(noisy.shape[1])
        return torch.full_like(noisy, len(self.calls) - 1)


@pytest.mark.parametrize("samples", [1, 3999, 4000, 4001, 7599, 7600, 7601, 20000])
def test_long_recordings_are_chunks_that_fade_into_each_other(monkeypatch, samples):
    monkeypatch.setattr(ChunkEnhancer, "chunk", 4000)
    monkeypatch.setattr(ChunkEnhancer, "overlap", 400)
    noisy = np.random.default_rng(0).standard_normal((2, samples), np.float32)
    for block in (samples, 777):

        def enhanced(model, block=block):
            enhancer = ChunkEnhancer(model, 2)
            blocks = [enhancer.push(noisy[:, start : start + block]) for start in range(0, samples, block)]
            return np.concatenate([*blocks, enhancer.flush()], 1)

        np.testing.assert_allclose(enhanced(torch.nn.Identity()), noisy, rtol=0, atol=1e-6)
        counting = Counting()
        steps = np.diff(enhanced(counting)[0])
        assert steps.size == samples - 1
        if samples > 4000:
            assert min(counting.calls) > 2000
            assert np.abs(steps).max() < 1.01 / 400  # from one call to the next, all in the overlap
        assert max(counting.calls) <= 4000
