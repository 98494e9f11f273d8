"""tools.enhance: recordings and pipes come out as they should, and bad ones are named."""

import io
import os
import sys
from pathlib import Path

import networks  # its `passing` is the name of a fixture here
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SMALL, offline, save_checkpoint, trained_like
from programs import refused, run
from recordings import write

from tools import enhance
from tools.demo_corpus.espeak import synthesise
from tools.inference.signal_chain import EnhanceOptions, SignalChain

MODEL = trained_like()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a network that changes what it gets."""
    return save_checkpoint(MODEL, tmp_path_factory.mktemp("run") / "best.pt", **SMALL)


@pytest.fixture(scope="module")
def passing(tmp_path_factory):
    """Of a network that passes its input through."""
    return save_checkpoint(networks.passing(), tmp_path_factory.mktemp("run") / "passing.pt", **SMALL, mask="C")


@pytest.fixture(scope="module")
def speech():
    """Two seconds of speech in noise, [samples] at 16 kHz."""
    spoken = synthesise("The small dog runs along the river in the morning.", variant="f3")[:32000]
    return spoken / np.abs(spoken).max() * 0.4 + 0.01 * np.random.default_rng(0).standard_normal(spoken.size)


def warmed_up(noisy):
    """The network's estimate of the whole [samples], warmed up by the mirrored first 0.3 s."""
    return offline(MODEL, np.concatenate([noisy[4800:0:-1], noisy]))[-len(noisy) :]


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


@pytest.mark.slow
def test_a_file_in_blocks_is_the_whole_file_at_once(tmp_path, checkpoint, speech):
    source = write(tmp_path / "a.wav", 0.3 * np.tile(speech, 6), subtype="FLOAT")  # longer than a chunk
    for name, options in (("blocks", []), ("stream", ["--stream"])):
        assert run(enhance, checkpoint, source, "-o", tmp_path / f"{name}.wav", *options) == 0
        out = soundfile.read(tmp_path / f"{name}.wav", dtype="float32")[0]
        np.testing.assert_allclose(out, warmed_up(soundfile.read(source, dtype="float32")[0]), rtol=0, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6), rate=st.sampled_from([8000, 16000, 44100]))
def test_the_blocks_cannot_be_heard_at_any_rate(sizes, rate):
    noisy = 0.1 * np.random.default_rng(0).standard_normal((sum(sizes), 2)).astype(np.float32)
    pieces, whole = (SignalChain(MODEL, rate, 2, EnhanceOptions()) for _ in range(2))
    blocks = np.split(noisy, np.cumsum(sizes)[:-1])
    in_blocks = np.concatenate([*(pieces.push(block) for block in blocks), pieces.finish()])
    at_once = np.concatenate([whole.push(noisy), whole.finish()])
    assert in_blocks.shape == noisy.shape
    np.testing.assert_allclose(in_blocks, at_once, rtol=0, atol=1e-5)


def test_dry_keeps_its_share_of_the_noisy_signal(tmp_path, checkpoint, speech):
    source = write(tmp_path / "a.wav", speech, 44100, subtype="FLOAT")
    outs = []
    for option, dry in (("--dry", 0), ("--mix", 0.25), ("--dry", 1)):  # --mix: its earlier name
        assert run(enhance, checkpoint, source, "-o", tmp_path / f"{dry}.wav", option, dry) == 0
        outs.append(soundfile.read(tmp_path / f"{dry}.wav")[0])
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


@pytest.mark.slow
def test_several_processes_write_what_one_writes(tmp_path, checkpoint, speech, capsys):
    for name in ("a", "b", "c"):
        write(tmp_path / "in" / f"{name}.wav", speech)
    (tmp_path / "in" / "bad.wav").write_text("no sound")
    for processes in (1, 2):
        assert (
            run(enhance, checkpoint, tmp_path / "in", "-o", tmp_path / f"{processes}", "--processes", processes)
            == 1
        )
        assert "bad.wav" in capsys.readouterr().err
    for name in ("a", "b", "c"):
        one, two = ((tmp_path / folder / f"{name}.wav").read_bytes() for folder in "12")
        assert one == two


def test_the_folder_one_is_in_is_written_beside_itself(tmp_path, checkpoint, speech, monkeypatch):
    write(tmp_path / "in" / "a.wav", speech)
    monkeypatch.chdir(tmp_path / "in")
    assert run(enhance, checkpoint, ".") == 0
    assert (tmp_path / "in_enhanced" / "a.wav").exists()


def test_existing_outputs_are_replaced_only_when_asked(tmp_path, checkpoint, speech, capsys):
    source, target = write(tmp_path / "a.wav", speech), tmp_path / "a_enhanced.wav"
    target.write_text("mine")
    assert run(enhance, checkpoint, source) == 1
    assert target.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert run(enhance, checkpoint, source, "--overwrite") == 0
    assert soundfile.info(target).frames == speech.size


def test_a_mistyped_run_is_not_replaced_by_the_packaged_network(here, checkpoint, speech, capsys):
    source = write(here / "a.wav", speech)
    (here / "runs" / "mine").mkdir(parents=True)
    (here / "runs" / "mine" / "best.pt").write_bytes(checkpoint.read_bytes())
    expected = "runs/mien: no such sound file, folder, checkpoint or run in runs/"
    assert expected in refused(capsys, enhance, "runs/mien", source)
    assert not (here / "a_enhanced.wav").exists()
    assert run(enhance, "runs/mine", source) == 0
    assert "network: runs/mine/best.pt" in capsys.readouterr().out


@pytest.mark.parametrize(("encoding", "dtype", "scale"), [("s16le", "<i2", 32768), ("f32le", "<f4", 1)])
def test_a_pipe_gives_as_many_samples_as_it_takes(monkeypatch, checkpoint, encoding, dtype, scale):
    pcm = (0.05 * scale * np.random.default_rng(0).standard_normal(32_000)).astype(dtype)
    sink = io.BytesIO()
    sink.close = lambda: None
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pcm.tobytes())))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sink))
    assert run(enhance, checkpoint, "-", "--encoding", encoding) == 0
    monkeypatch.undo()
    out = np.frombuffer(sink.getvalue(), dtype)
    whole = offline(MODEL, pcm.astype(np.float32) / scale)
    np.testing.assert_allclose(out / scale, whole, rtol=0, atol=1 / scale if scale > 1 else 1e-5)


BAD_RECORDINGS = {
    "missing": lambda path: None,
    "text": lambda path: path.write_text("no sound"),
    "no samples": lambda path: soundfile.write(path, np.zeros(0), 16000),
    "cut flac": lambda path: cut_in_half(path),
    "nan": lambda path: soundfile.write(path, np.float32([0, np.nan, 0]), 16000, subtype="FLOAT"),
    "infinity": lambda path: soundfile.write(path, np.float32([0, np.inf]), 16000, subtype="FLOAT"),
}


def cut_in_half(path):
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(50_000), 16000, format="FLAC")
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("spoil", BAD_RECORDINGS.values(), ids=BAD_RECORDINGS)
def test_a_recording_that_cannot_be_enhanced_is_named_in_one_line(tmp_path, checkpoint, capsys, spoil):
    path = tmp_path / "bad.wav"
    spoil(path)
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
    assert run(enhance, checkpoint, source, "-o", tmp_path / "b.xyz") == 1
    assert "XYZ cannot be written; name a .wav or .flac" in capsys.readouterr().err
    assert not (tmp_path / "b.xyz").exists()


@pytest.mark.parametrize("arguments", [[], ["a.wav", "--dry", "2"], ["a.wav", "--live"], ["-", "a.wav"]])
def test_arguments_that_make_no_sense_are_refused_in_one_line(checkpoint, capsys, arguments):
    refused(capsys, enhance, checkpoint, *arguments)
