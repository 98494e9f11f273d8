"""enhance() from Python, the limit of attenuation, the band above 8 kHz, and the packaged network."""

import io
import sys

import numpy as np
import pytest
import soundfile
import torch
from networks import SMALL, offline, save_checkpoint, trained_like
from programs import refused, run
from recordings import speech

import models
from models.streaming import StreamingEnhancer
from tools import enhance as command
from tools.common.errors import UserError
from tools.inference import enhance
from tools.inference.gains import SlowGain

MODEL = trained_like()


def noise(*shape, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5000,), (1, 5000), (2, 5000)])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, torch.float32, torch.float16])
def test_shape_and_type_come_back(shape, kind):
    audio = noise(*shape)
    if kind is np.int16:
        audio = (audio * 32768).astype(np.int16)
    elif isinstance(kind, torch.dtype):
        audio = torch.from_numpy(audio).to(kind).requires_grad_()
    else:
        audio = audio.astype(kind)
    estimate = enhance(audio, 16000, MODEL)
    assert type(estimate) is type(audio)
    assert (estimate.dtype, tuple(estimate.shape)) == (audio.dtype, shape)
    assert not getattr(estimate, "requires_grad", False)


@pytest.mark.parametrize("samples", [1, 2, 4800, 20_000, 170_000])
def test_at_16_khz_it_is_the_network_warmed_up_by_the_mirrored_beginning(samples):
    noisy = 0.5 * noise(samples)
    whole = offline(MODEL, np.concatenate([noisy[4800:0:-1], noisy]))[-samples:]
    np.testing.assert_allclose(enhance(noisy, 16000, MODEL), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_from_python_and_from_the_command_line_are_the_same(tmp_path, rate):
    checkpoint = save_checkpoint(MODEL, tmp_path / "best.pt", **SMALL)
    noisy = noise(2, rate + 13)
    soundfile.write(tmp_path / "a.wav", noisy.T, rate, subtype="FLOAT")
    options = ["--limit_db", "12", "--dry", "0.1"]
    assert run(command, checkpoint, tmp_path / "a.wav", "-o", tmp_path / "b.wav", *options) == 0
    from_file = soundfile.read(tmp_path / "b.wav", dtype="float32")[0].T
    np.testing.assert_allclose(enhance(noisy, rate, MODEL, limit_db=12, dry=0.1), from_file, rtol=0, atol=1e-5)


BAD_AUDIO = {
    "empty": (np.zeros(0), 16000, {}, "shape \\[0\\]"),
    "turned": (np.zeros((5000, 2)), 16000, {}, "audio.T"),
    "nan": (np.float32([0, np.nan]), 16000, {}, "sample 1 is NaN"),
    "rate 0": (np.zeros(5), 0, {}, "rate: found 0"),
    "booleans": (np.zeros(5, bool), 16000, {}, "found bool"),
    "a negative limit": (np.zeros(5), 16000, {"limit_db": -3}, "limit_db"),
    "more than all": (np.zeros(5), 16000, {"dry": 2}, "dry"),
    "no such way": (np.zeros(5), 16000, {"highband": "up"}, "highband"),
}


@pytest.mark.parametrize(("audio", "rate", "options", "message"), BAD_AUDIO.values(), ids=BAD_AUDIO)
def test_what_cannot_be_enhanced_is_named(audio, rate, options, message):
    with pytest.raises(UserError, match=message):
        enhance(audio, rate, MODEL, **options)


def test_a_waveform_without_a_batch_is_explained():
    with pytest.raises(ValueError, match="noisy\\[None\\]"):
        MODEL(torch.zeros(100))


def test_a_stream_takes_numpy_and_gives_numpy():
    noisy, enhancer = noise(3000), StreamingEnhancer(MODEL)
    pieces = [enhancer.push(block) for block in np.split(noisy, [1000])] + [enhancer.flush()]
    assert all(isinstance(piece, np.ndarray) for piece in pieces)
    np.testing.assert_allclose(np.concatenate(pieces), offline(MODEL, noisy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_the_limit_keeps_as_much_of_the_noisy_speech_as_it_says(rate):
    noisy = noise(rate)
    estimate = enhance(noisy, rate, MODEL)
    kept = np.float32(10**-0.6)
    expected = kept * noisy + (1 - kept) * estimate
    np.testing.assert_allclose(enhance(noisy, rate, MODEL, limit_db=12), expected, rtol=0, atol=1e-6)


NETWORK = models.load_pretrained()


def decibels(signal):
    return 10 * np.log10(np.mean(np.square(signal, dtype=float)))


def test_a_voice_in_the_middle_stays_there_unless_channels_are_separate():
    voice = speech("a", 3.0).astype(np.float32)
    noisy = voice + np.stack([0.1 * noise(48_000), noise(48_000, seed=1)])

    def place(options):
        """Return the level of the voice on the left less that on the right, in dB, in each loud 0.2 s."""
        estimate = enhance(noisy, 16000, NETWORK, **options).reshape(2, -1, 3200)
        parts = voice.reshape(-1, 3200)
        loud = np.square(parts).mean(1) > np.square(parts).mean() / 4
        gains = np.abs((estimate * parts).sum(2))[:, loud]
        return 20 * np.log10(gains[0] / gains[1])

    assert np.abs(place({})).max() < 1 < np.abs(place({"stereo": "separate"})).max()


def test_separate_channels_are_enhanced_as_if_alone():
    both = enhance(noise(2, 4000), 44_100, MODEL, stereo="separate")
    for channel, estimate in zip(noise(2, 4000), both, strict=True):
        np.testing.assert_allclose(estimate, enhance(channel, 44_100, MODEL), rtol=0, atol=1e-5)


def test_a_recording_of_any_level_is_enhanced_alike():
    noisy = speech("a", 2.0) + noise(32_000)
    noisy = np.float32(noisy / np.abs(noisy).max())
    usual = enhance(noisy * np.float32(0.1), 16000, NETWORK) * 10
    for level_db in range(-85, 1, 5):
        gain = np.float32(10 ** (level_db / 20))
        assert abs(decibels(enhance(gain * noisy, 16000, NETWORK) / gain) - decibels(usual)) < 1, level_db


def test_a_live_signal_of_any_level_is_brought_to_a_usual_one():
    spoken = speech("a", 6.0) + 0.001 * noise(96_000)
    for level_db in (-85, -65, -30):
        signal = np.float32(spoken / spoken.std() * 10 ** (level_db / 20))[:, None]
        gains = SlowGain(16000, 1).push(signal)
        slow = SlowGain(16000, 1)
        blocks = [slow.push(block) for block in np.array_split(signal, 77)]
        np.testing.assert_allclose(np.concatenate(blocks), gains, rtol=1e-5)
        assert -42 < decibels(signal[-16000:] * gains[-16000:]) < -20


def test_noise_is_removed_from_the_first_tenth_of_a_second_on():
    noisy = noise(24_000)
    assert decibels(noisy) - decibels(enhance(noisy, 16000, NETWORK)[:1600]) > 21


def energy(signal, rate, low, high):
    power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) ** 2
    hertz = np.fft.rfftfreq(len(signal), 1 / rate)
    return power[(hertz > low) & (hertz < high)].sum()


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_above_8_khz_the_signal_follows_stays_or_goes(rate):
    noisy = noise(2 * rate)
    out = {way: enhance(noisy, rate, MODEL, highband=way) for way in ("follow", "keep", "drop")}
    gain = {
        way: 10 * np.log10(energy(y, rate, 8500, 11000) / energy(noisy, rate, 8500, 11000))
        for way, y in out.items()
    }
    below = 10 * np.log10(energy(out["drop"], rate, 4500, 7500) / energy(noisy, rate, 4500, 7500))
    assert abs(gain["keep"]) < 0.01
    assert abs(gain["follow"] - below) < 0.3
    assert gain["drop"] < -60
    for way in ("follow", "keep"):  # below, all are the same
        assert energy(out[way] - out["drop"], rate, 0, 7000) < 1e-6 * energy(noisy, rate, 0, 7000)


def test_the_packaged_network_is_used_where_none_is_named(tmp_path, capsys):
    noisy = noise(5000)
    soundfile.write(tmp_path / "a.wav", noisy, 16000, subtype="FLOAT")
    assert run(command, tmp_path / "a.wav") == 0
    assert run(command, "pretrained", tmp_path / "a.wav", "-o", tmp_path / "b.wav") == 0
    assert capsys.readouterr().out.count("the packaged one") == 2
    out = soundfile.read(tmp_path / "a_enhanced.wav", dtype="float32")[0]
    np.testing.assert_array_equal(enhance(noisy, 16000), out)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav", dtype="float32")[0], out)
    np.testing.assert_allclose(enhance(noisy, 16000, NETWORK), out, rtol=0, atol=1e-5)


def test_a_header_on_the_pipe_is_noticed(tmp_path, monkeypatch, capsys):
    checkpoint = save_checkpoint(MODEL, tmp_path / "best.pt", **SMALL)
    file = io.BytesIO()
    soundfile.write(file, noise(100), 16000, format="WAV")

    class Pipe:
        buffer = io.BytesIO(file.getvalue())

    monkeypatch.setattr(sys, "stdin", Pipe)
    assert "header of a sound file" in refused(capsys, command, checkpoint, "-")
