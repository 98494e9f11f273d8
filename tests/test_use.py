"""What was trained, put to use: recordings, pipes, weights in and out, and inputs that nobody should trust."""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import REFERENCE, SMALL, VARIANTS, reference_weights, trained_like
from programs import run

from config import Config
from models import build_model, from_upstream, load_model
from models.upstream import infer_settings, to_upstream
from tools import enhance, export, import_checkpoint
from tools.espeak import synthesise
from tools.signal_chain import SignalChain

MODEL = trained_like()


def save(model, path, **settings):
    torch.save({"config": Config(**settings).to_dict(), "model": model.state_dict(), "epoch": 1}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a network that changes what it gets."""
    return save(MODEL, tmp_path_factory.mktemp("run") / "best.pt", **SMALL)


@pytest.fixture(scope="module")
def passing(tmp_path_factory):
    """Of a network that passes its input through, by mask C with the value 1."""
    model = trained_like(mask="C")
    last = model.decoder[-1]
    with torch.no_grad():
        for weight, value in ((last.weight_real, 0), (last.weight_imag, 0), (last.bias_real, 0.5)):
            weight.fill_(value)
        last.bias_imag.fill_(-0.5)
    return save(model, tmp_path_factory.mktemp("run") / "passing.pt", **SMALL, mask="C")


@pytest.fixture(scope="module")
def speech():
    """Two seconds of speech in noise, [samples] at 16 kHz."""
    spoken = synthesise("The small dog runs along the river in the morning.", variant="f3")[:32000]
    return spoken / np.abs(spoken).max() * 0.4 + 0.01 * np.random.default_rng(0).standard_normal(spoken.size)


def write(path, signal, rate=16000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate, **options)
    return path


FORMATS = [
    ("a.wav", "PCM_16", 16000, 1),
    ("a.wav", "PCM_U8", 8000, 1),
    ("a.wav", "FLOAT", 44100, 2),
    ("a.flac", "PCM_24", 48000, 2),
    ("a.ogg", "VORBIS", 22050, 1),
    ("a.mp3", "MPEG_LAYER_III", 44100, 2),
]


@pytest.mark.parametrize(("name", "subtype", "rate", "channels"), FORMATS, ids=lambda v: str(v))
def test_what_comes_out_has_the_form_of_what_went_in(tmp_path, checkpoint, name, subtype, rate, channels):
    noisy = 0.1 * np.random.default_rng(0).standard_normal((rate + 17, channels))
    source = write(tmp_path / name, noisy, rate, subtype=subtype)
    assert run(enhance, checkpoint, source, "-o", tmp_path / "out") == 0
    before, after = soundfile.info(source), soundfile.info(tmp_path / "out" / name)
    for field in ("samplerate", "channels", "frames", "format", "subtype"):
        assert getattr(after, field) == getattr(before, field), field


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("peak", [0.2, 3.0])
def test_level_polarity_and_place_of_the_signal_are_kept(tmp_path, passing, speech, rate, peak):
    """A network that passes its input through shows what the way to it and back does."""
    import soxr

    signal = soxr.resample(soxr.resample(speech, 16000, 8000), 8000, rate)  # nothing above the lower rate's band
    signal *= peak / np.abs(signal).max()
    source = write(tmp_path / "a.wav", signal, rate, subtype="FLOAT")
    assert run(enhance, passing, source, "-o", tmp_path / "b.wav") == 0
    out = soundfile.read(tmp_path / "b.wav")[0]
    gain = out @ signal / (signal @ signal)
    assert 0.99 < gain < 1.01
    assert np.sum((out - signal) ** 2) < 1e-3 * np.sum(signal**2)


def test_a_file_in_blocks_is_the_whole_file_at_once(tmp_path, checkpoint, speech):
    source = write(tmp_path / "a.wav", np.tile(speech, 3), subtype="FLOAT")  # three blocks
    for name, options in (("blocks", []), ("stream", ["--stream"])):
        assert run(enhance, checkpoint, source, "-o", tmp_path / f"{name}.wav", *options) == 0
        out = soundfile.read(tmp_path / f"{name}.wav", dtype="float32")[0]
        with torch.no_grad():
            whole = MODEL(torch.from_numpy(soundfile.read(source, dtype="float32")[0])[None])[0]
        np.testing.assert_allclose(out, whole, rtol=0, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6), rate=st.sampled_from([8000, 16000, 44100]))
def test_the_blocks_cannot_be_heard_at_any_rate(sizes, rate):
    noisy = 0.1 * np.random.default_rng(0).standard_normal((sum(sizes), 2)).astype(np.float32)
    pieces, whole = SignalChain(MODEL, rate, 2), SignalChain(MODEL, rate, 2)
    blocks = np.split(noisy, np.cumsum(sizes)[:-1])
    in_blocks = np.concatenate([*(pieces.push(block) for block in blocks), pieces.finish()])
    at_once = np.concatenate([whole.push(noisy), whole.finish()])
    assert in_blocks.shape == noisy.shape
    np.testing.assert_allclose(in_blocks, at_once, rtol=0, atol=1e-5)


def test_mix_keeps_its_share_of_the_noisy_signal(tmp_path, checkpoint, speech):
    source = write(tmp_path / "a.wav", speech, 44100, subtype="FLOAT")
    outs = []
    for mix in (0, 0.25, 1):
        assert run(enhance, checkpoint, source, "-o", tmp_path / f"{mix}.wav", "--mix", mix) == 0
        outs.append(soundfile.read(tmp_path / f"{mix}.wav")[0])
    np.testing.assert_allclose(outs[2], speech, rtol=0, atol=1e-6)
    np.testing.assert_allclose(outs[1], 0.75 * outs[0] + 0.25 * outs[2], rtol=0, atol=1e-6)


def test_a_folder_keeps_its_tree_and_a_bad_file_stops_nothing(tmp_path, checkpoint, speech, capsys):
    write(tmp_path / "in" / "a.wav", speech)
    write(tmp_path / "in" / "deep" / "b.flac", speech)
    (tmp_path / "in" / "aa.wav").write_text("no sound")
    (tmp_path / "in" / "notes.txt").write_text("not for listening")
    assert run(enhance, checkpoint, tmp_path / "in") == 1
    out = tmp_path / "in_enhanced"
    assert sorted(p.relative_to(out) for p in out.rglob("*.*")) == [Path("a.wav"), Path("deep/b.flac")]
    printed = capsys.readouterr()
    assert "2 of 3 files enhanced" in printed.out
    assert printed.err.count("error:") == 1
    assert "aa.wav" in printed.err.splitlines()[-1]


def test_existing_outputs_are_replaced_only_when_asked(tmp_path, checkpoint, speech, capsys):
    source, target = write(tmp_path / "a.wav", speech), tmp_path / "a_enhanced.wav"
    target.write_text("mine")
    assert run(enhance, checkpoint, source) == 1
    assert target.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert run(enhance, checkpoint, source, "--overwrite") == 0
    assert soundfile.info(target).frames == speech.size


@pytest.mark.parametrize(("encoding", "dtype", "scale"), [("s16le", "<i2", 32768), ("f32le", "<f4", 1)])
def test_a_pipe_gives_as_many_samples_as_it_takes(monkeypatch, checkpoint, speech, encoding, dtype, scale):
    pcm = (speech * scale).astype(dtype)

    class Pipe:
        buffer = io.BytesIO(pcm.tobytes())

    class Sink:
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdin", Pipe)
    monkeypatch.setattr(sys, "stdout", Sink)
    assert run(enhance, checkpoint, "-", "--encoding", encoding) == 0
    monkeypatch.undo()
    out = np.frombuffer(Sink.buffer.getvalue(), dtype)
    with torch.no_grad():
        whole = MODEL(torch.from_numpy(pcm.astype(np.float32) / scale)[None])[0].numpy()
    np.testing.assert_allclose(out / scale, whole, rtol=0, atol=1 / scale if scale > 1 else 1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("nested", [False, True])
def test_weights_of_the_published_code_come_in_and_go_out_unchanged(tmp_path, variant, nested):
    state, mask = reference_weights(variant), VARIANTS[variant][1].get("mask", "E")
    torch.save({"model": state} if nested else state, tmp_path / "up.pt")
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", "--mask", mask) == 0
    with torch.no_grad():
        estimate = load_model(tmp_path / "ours.pt")(torch.from_numpy(REFERENCE["noisy"])).numpy()
    np.testing.assert_allclose(estimate, REFERENCE[f"estimate/{variant}"], rtol=0, atol=1e-5)
    assert run(export, tmp_path / "ours.pt", tmp_path / "back.pt", "--upstream") == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    transforms = {"stft.weight", "istft.weight", "istft.window", "istft.enframe"}
    assert back.keys() - state.keys() == transforms  # upstream loads them as weights, too


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lstm": "real", "rnn_units": 10, "rnn_layers": 3},
        {"norm": "complex", "kernel_num": (6, 4), "rnn_layers": 1},
        {"skip": False},
    ],
)
def test_settings_are_read_off_the_shapes(settings):
    config = Config(**{**SMALL, **settings})
    state = build_model(config).state_dict()
    upstream = to_upstream(state)
    inferred = infer_settings(upstream)
    assert {name: getattr(config, name) for name in inferred} == inferred
    again = from_upstream(upstream)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("decoder.3.1.running_var"), "missing decoder.3.1.running_var"),
        (lambda state: state.update({"attention.weight": torch.ones(1)}), "unknown attention.weight"),
        (lambda state: state.update({"encoder.0.2.weight": torch.ones(7)}), "encoder.0.2.weight of shape [7]"),
        (lambda state: state.update({"stft.weight": torch.ones(514, 1, 400)}), "stft.weight of another transform"),
        (lambda state: state.clear() or state.update({"a": torch.ones(1)}), "encoder.0.0.real_conv.weight"),
        (lambda state: state.update({"epoch": 3}), "'epoch', which is no tensor"),
    ],
)
def test_foreign_weights_that_do_not_fit_are_named(tmp_path, capsys, change, named):
    state = reference_weights("E")
    change(state)
    torch.save(state, tmp_path / "up.pt")
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", "--mask", "E") == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "ours.pt").exists()


class _RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("code_ran",))


def zip_bomb(path):
    """A checkpoint whose one weight unpacks to a gigabyte of zeros."""
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, bytes(1 << 28) if name.endswith("data/0") else data)


BAD_CHECKPOINTS = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights"),
    "folder": lambda path: path.mkdir(),
    "truncated": lambda path: (torch.save(MODEL.state_dict(), path), os.truncate(path, path.stat().st_size // 2)),
    "code": lambda path: torch.save({"model": {}, "config": {}, "epoch": _RunsCode()}, path),
    "legacy code": lambda path: torch.save([_RunsCode()], path, _use_new_zipfile_serialization=False),
    "whole module": lambda path: torch.save(MODEL, path),
    "zip bomb": zip_bomb,
    "one number said to be many": lambda path: torch.save({"model": {"a": torch.zeros(1).expand(1 << 40)}}, path),
    "settings beyond memory": lambda path: save(MODEL, path, kernel_num=(10**6, 10**6), rnn_units=10**6),
    "not a number": lambda path: save(with_nan(), path, **SMALL),
    "list": lambda path: torch.save([1, 2], path),
}


def with_nan():
    model = trained_like()
    with torch.no_grad():
        model.encoder[0].conv.weight_real[0] = float("nan")
    return model


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
def test_a_checkpoint_not_to_be_trusted_is_refused_in_one_line(tmp_path, monkeypatch, capsys, speech, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    BAD_CHECKPOINTS[kind](path)
    write(tmp_path / "a.wav", speech)
    for arguments in (
        (enhance, path, "a.wav"),
        (export, path, "a.onnx"),
        (import_checkpoint, path, "out.pt", "--mask", "E"),
    ):
        if arguments[0] is import_checkpoint and kind in ("not a number", "settings beyond memory"):
            continue  # a checkpoint of this project, which the import refuses for its names
        assert run(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ")
        assert "bad.pt" in error
        assert "\n" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"a.wav", *(["bad.pt"] if path.exists() else [])})


def wav_bytes(channels=1, rate=16000, data=b"\0" * 320):
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, channels, rate,
                       2 * rate * channels, 2 * channels, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", len(data)) + data


def cut_flac(path):
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(50_000), 16000, format="FLAC")
    os.truncate(path, path.stat().st_size // 2)


BAD_RECORDINGS = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no sound"),
    "header alone": lambda path: path.write_bytes(wav_bytes(data=b"")),
    "no channels": lambda path: path.write_bytes(wav_bytes(channels=0)),
    "no rate": lambda path: path.write_bytes(wav_bytes(rate=0)),
    "one hertz": lambda path: path.write_bytes(wav_bytes(rate=1)),
    "cut header": lambda path: path.write_bytes(wav_bytes()[:30]),
    "cut flac": cut_flac,
    "nan": lambda path: soundfile.write(path, np.float32([0, np.nan, 0]), 16000, subtype="FLOAT"),
    "infinity": lambda path: soundfile.write(path, np.float32([0, np.inf]), 16000, subtype="FLOAT"),
    "random bytes": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
}


@pytest.mark.parametrize("kind", BAD_RECORDINGS)
def test_a_recording_that_cannot_be_enhanced_is_named_in_one_line(tmp_path, checkpoint, capsys, kind):
    path = tmp_path / "bad.wav"
    BAD_RECORDINGS[kind](path)
    assert run(enhance, checkpoint, path, "-o", tmp_path / "out.wav") == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert sum(line.startswith("error: ") for line in error) == 1
    assert "bad.wav" in error[-1]
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("samples", [1, 2, 99, 100, 101])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_the_shortest_recordings_keep_their_length(tmp_path, checkpoint, samples, rate):
    source = write(tmp_path / "a.wav", np.full(samples, 0.1), rate)
    assert run(enhance, checkpoint, source, "-o", tmp_path / "b.wav") == 0
    assert soundfile.info(tmp_path / "b.wav").frames == samples


def test_an_output_that_cannot_be_written_is_named(tmp_path, checkpoint, speech, capsys):
    source = write(tmp_path / "a.wav", speech)
    (tmp_path / "file").write_text("no folder")
    assert run(enhance, checkpoint, source, "-o", tmp_path / "file" / "b.wav") == 1
    assert "file" in capsys.readouterr().err
    assert run(enhance, checkpoint, source, "-o", tmp_path / "b.xyz") == 0  # a folder of that name
    assert run(enhance, checkpoint, source, "-o", source, "--overwrite") == 1
    assert soundfile.info(source).frames == speech.size


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.wav", "--mix", "2"],
        ["a.wav", "--live"],
        ["-", "a.wav"],
        ["a.wav", "b.wav", "-o", "c.wav"],
        ["--no"],
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_one_line(checkpoint, capsys, arguments):
    assert run(enhance, checkpoint, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
