"""Sound files as people have them: without a length, of other kinds, with tags."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
from programs import run
from recordings import speech, write

from tools import enhance
from tools.common import audio
from tools.common.errors import UserError

SECONDS = 3


def without_total(flac):
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


def from_pipe(wav):
    at = wav.find(b"data") + 4
    return wav[:at] + bytes(4) + wav[at + 4 :]


# name: how it is written, what is done to its bytes, seconds or the reason why it is not read without ffmpeg
ODD = {
    "plain.mp3": ({}, lambda mp3: mp3, SECONDS),
    "adpcm.wav": ({"subtype": "MS_ADPCM"}, lambda wav: wav, SECONDS),
    "unknown.flac": ({}, without_total, "no known length"),
    "pipe.wav": ({}, from_pipe, "no known length"),
    "gsm.wav": ({"subtype": "GSM610"}, lambda wav: wav, "no known length"),
    "voice.m4a": ({"format": "WAV"}, lambda wav: wav, "needs ffmpeg"),
}


@pytest.fixture(params=ODD)
def odd(request, tmp_path):
    options, change, expected = ODD[request.param]
    path = write(tmp_path / "in" / request.param, speech("a", SECONDS), **options)
    path.write_bytes(change(path.read_bytes()))
    return path, expected


def test_odd_files_are_read_whole_or_refused_with_a_way_out(odd, monkeypatch):
    path, expected = odd
    monkeypatch.setenv("PATH", "")
    if isinstance(expected, str):
        with pytest.raises(UserError, match=f"{expected}.*install ffmpeg"):
            audio.read(path)
        return
    spoken, samples = speech("a", SECONDS), audio.read(path)
    assert len(samples) == audio.read_format(path).samples == pytest.approx(16000 * expected, abs=2500)
    assert samples.std() == pytest.approx(spoken.std(), rel=0.1)
    np.testing.assert_allclose(audio.read(path, 20000, 8000), samples[20000:28000], atol=1e-3)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_ffmpeg_reads_what_libsndfile_does_not(odd, capsys):
    path, _ = odd
    assert run(enhance, path.parent, "-o", path.parent / "out") == 0
    assert f"{path.name} -> " in capsys.readouterr().out
    out = path.parent / "out" / path.name.replace("m4a", "flac")
    assert soundfile.info(out).duration == pytest.approx(SECONDS, abs=0.16)
    assert audio.read(path).std() == pytest.approx(speech("a", SECONDS).std(), rel=0.1)


def test_titles_are_kept(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 16000, 1) as file:
        file.title, file.artist = "Interview 3", "A. Speaker"
        file.write(speech("a"))
    assert run(enhance, tmp_path / "a.flac", "-o", tmp_path / "out") == 0
    assert soundfile.SoundFile(tmp_path / "out/a.flac").title == "Interview 3"
